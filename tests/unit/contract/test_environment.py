from onceserve_contract import environment
from onceserve_serving.settings import Settings, variable_of


def test_the_server_reads_every_variable_that_the_operator_writes() -> None:
    names = {value for name, value in vars(environment).items() if name.isupper() and name != "PREFIX"}
    assert names <= {variable_of(field) for field in Settings.model_fields}
