"""Fields of config.json replaced by values of every kind: a sample of them, and in the nightly run all."""

import pytest
from config_mutations import FAMILIES, QUANTIZED, Mutation, Tally, mutations, try_family, unnamed

# A prime, so that each kind of value meets each kind of field.
EVERY = 23
SAMPLED = ("LlamaForCausalLM", "DeepseekV3ForCausalLM")


def check(tally: Tally) -> None:
    assert tally.faults == []
    assert tally.slow == []
    assert tally.silent == []
    assert unnamed(tally) == []
    assert tally.models
    assert tally.errors


@pytest.mark.parametrize("family", SAMPLED)
def test_a_mutated_field_gives_a_model_or_an_error_that_names_it(tmp_path, family):
    check(try_family(family, tmp_path, EVERY))


@pytest.mark.full
@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("family", [*FAMILIES, *QUANTIZED])
def test_every_mutation_gives_a_model_or_an_error_that_names_it(tmp_path, family):
    check(try_family(family, tmp_path))


def test_mutations_reach_the_fields_of_objects_and_leave_the_config_as_it_is():
    config = {"a": 1, "rope": {"factor": 2.0}}
    found = list(mutations(config))
    assert {mutation.path for mutation in found} == {("a",), ("rope",), ("rope", "factor")}
    assert Mutation(("rope", "factor"), 2.0, "x").made_in(config) == {"a": 1, "rope": {"factor": "x"}}
    assert Mutation(("rope", "factor"), 2.0, "removed").made_in(config) == {"a": 1, "rope": {}}
    assert config == {"a": 1, "rope": {"factor": 2.0}}


def test_what_is_expected_of_an_error():
    wrong = Mutation(("hidden_size",), 32, "x")
    assert wrong.is_of_another_type
    assert not Mutation(("hidden_size",), 32, 64).is_of_another_type
    assert not Mutation(("initializer_range",), 0.02, "x").is_of_another_type
    tally = Tally(errors=[(wrong, "hidden_size is x"), (wrong, "int object is not a str")])
    assert unnamed(tally) == [(wrong, "int object is not a str")]
