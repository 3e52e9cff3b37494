"""Ray's own preparation of the AWS preset, against moto's EC2: who may connect afterwards."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.preset_checks import SIZES, load, machine_name

pytestmark = pytest.mark.slow  # moto's EC2 takes seconds to start

HOME_ADDRESS = "203.0.113.7/32"
REGION = "eu-central-1"
RAYS_ROLE = "ray-autoscaler-v1"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A security group as README.md makes it, in an account without any of Ray's."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray leaves its key there
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        make_rays_role()
        yield make_group()
    server.stop()


def make_rays_role() -> None:
    """As an earlier `ray up` left it; making it, Ray sleeps for half a minute."""
    iam = boto3.client("iam", REGION)
    iam.create_instance_profile(InstanceProfileName=RAYS_ROLE)
    iam.create_role(RoleName=RAYS_ROLE, AssumeRolePolicyDocument="{}")
    iam.add_role_to_instance_profile(InstanceProfileName=RAYS_ROLE, RoleName=RAYS_ROLE)


def make_group() -> str:
    """Lets in SSH from one address, and its own members."""
    ec2 = boto3.client("ec2", REGION)
    network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    made: str = ec2.create_security_group(GroupName="segsweep", Description="-", VpcId=network)["GroupId"]
    inside = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": made}]}]
    ec2.authorize_security_group_ingress(GroupId=made, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp=HOME_ADDRESS)
    ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=inside)
    return made


def prepared(text: str, group: str) -> dict[str, Any]:
    """What `ray up` would start machines from, with the lines to edit filled in."""
    config = prepare_config(yaml.safe_load(text.replace("sg-00000000000000000", group)))
    config["provider"]["region"] = REGION
    validate_config(config)
    ready: dict[str, Any] = bootstrap_aws(config)
    return ready


def let_in(config: dict[str, Any]) -> set[str]:
    """Returns the addresses that may open a connection to any machine."""
    groups = {
        name for kind in config["available_node_types"].values() for name in kind["node_config"]["SecurityGroupIds"]
    }
    described = boto3.client("ec2", REGION).describe_security_groups(GroupIds=sorted(groups))["SecurityGroups"]
    rules = [rule for group in described for rule in group["IpPermissions"]]
    return {address["CidrIp"] for rule in rules for address in rule["IpRanges"]}


def test_only_the_users_address_gets_in(group: str) -> None:
    assert let_in(prepared(load("aws"), group)) == {HOME_ADDRESS}


def test_rays_own_group_would_let_everybody_in(group: str) -> None:
    """The reason for a group of the user's: rules under `provider.security_group` come on top of this one."""
    text = load("aws").replace("      SecurityGroupIds: [*security_group]\n", "")
    assert let_in(prepared(text, group)) == {"0.0.0.0/0"}


def test_ray_finds_the_same_machines_as_the_preset_says(group: str) -> None:
    config = prepared(load("aws"), group)
    filled = AWSNodeProvider.fillout_available_node_types_resources(config)["available_node_types"]
    del filled["head"]  # 0 CPUs are ours, to keep trials off
    for name, kind in filled.items():
        assert (kind["resources"]["CPU"], kind["resources"]["GPU"]) == SIZES[machine_name(kind["node_config"])], name
    assert {word for kind in filled.values() for word in kind["resources"] if ":" in word} == {
        "accelerator_type:T4",
        "accelerator_type:A10G",
    }
