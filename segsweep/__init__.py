"""The application: sweep file, search, driver, ensemble, and the command line. Import the rooms by name."""
