"""What the fork server of killable processes imports once: the code, and the SDK's models of the services."""

from tests.faults.killable import SESSION

for _service in ("dynamodb", "meteringmarketplace"):
    SESSION.client(_service, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing")
