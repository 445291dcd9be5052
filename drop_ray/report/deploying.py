"""The commands that export, load and serve a variant, as the report shows them."""

import re

from drop_ray.report.rows import VariantRow

OF_FORMATS = re.compile(r"dropped: ([^,]+)")
"""The folder of one format, where a checkpoint was exported in several."""


def commands(run: str, variant: VariantRow) -> list[str]:
    """Lines for a shell; run: name of the run, after which its file is called unless the user says otherwise."""
    exporting, folder = _folder(run, variant)
    return [*exporting, f"python -c 'import drop_ray; model = drop_ray.load(\"{folder}\")'", f"drop-ray serve {folder}"]


def _folder(run: str, variant: VariantRow) -> tuple[list[str], str]:
    """How its checkpoint comes to be in a folder, and the folder."""
    if variant.checkpoint:
        several = OF_FORMATS.search(variant.checkpoint)
        place = several[1] if several else variant.checkpoint
        return ([f"aws s3 sync {place} {variant.name}"], variant.name) if place.startswith("s3://") else ([], place)
    if variant.changes:
        line = f"drop-ray export {run}.yaml --set 'export=[{variant.name}]'  # prints the FOLDER of the checkpoint"
        return [line], "FOLDER"
    return [f"drop-ray export {run}.yaml --plan {variant.name} --output {variant.name}"], variant.name
