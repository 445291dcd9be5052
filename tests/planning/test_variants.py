from drop_ray.config import QuantizationSpec
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.variants import Variant, distinct, quantized_variants

BASE, TWO, SAME = DropPlan("base"), DropPlan("attention-2", (3, 1)), DropPlan("by-hand", (1, 3))
AWQ, GPTQ = QuantizationSpec(method="awq"), QuantizationSpec(method="gptq", name="gptq-8", bits=8)


def test_the_base_and_every_plan_are_quantized_by_each_method():
    names = [variant.name for variant in quantized_variants(BASE, [TWO], [AWQ, GPTQ])]
    assert names == ["base-awq", "attention-2-awq", "base-gptq-8", "attention-2-gptq-8"]


def test_only_named_plans_are_quantized_and_the_base_always():
    spec = QuantizationSpec(method="gptq", plans=["by-hand"])
    assert [variant.name for variant in quantized_variants(BASE, [TWO, SAME], [spec])] == ["base-gptq", "by-hand-gptq"]


def test_plans_with_equal_drop_lists_are_one_model_but_not_in_another_form():
    variants = [Variant(TWO), Variant(SAME), Variant(TWO, AWQ), Variant(SAME, AWQ), Variant(TWO, GPTQ), Variant(BASE)]
    assert [variant.name for variant in distinct(variants)] == [
        "attention-2",
        "attention-2-awq",
        "attention-2-gptq-8",
        "base",
    ]
