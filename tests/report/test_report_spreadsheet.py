"""results.csv as a spreadsheet reads it."""

import csv
import io
import math

from large_results import NUM_DOCUMENTS, NUM_PLANS, TASKS, large_results

from drop_ray.report.spreadsheet import results_csv


def test_every_number_is_a_line_with_what_its_variant_is():
    results = large_results()
    rows = [*csv.DictReader(io.StringIO(results_csv(results)))]
    assert sum(row["task"] in TASKS for row in rows) == (4 * NUM_PLANS + 1) * len(TASKS)
    row = next(row for row in rows if (row["variant"], row["task"]) == ("joint-4-refit-gptq", "piqa"))
    found = next(one for one in results.evaluations if (one.variant, one.task) == (row["variant"], "piqa"))
    assert math.isclose(float(row["value"]), found.value)
    assert (row["changes"], row["dropped_attention"], row["documents"]) == ("refit-gptq", "4 5 6 7", str(NUM_DOCUMENTS))
