"""The rules of the house: who may import what, and that light parts stay light."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from canaries import CanaryError, canary, check_parameters

import drop_ray
from drop_ray.extensions import STRATEGIES

PACKAGE = Path(drop_ray.__file__).parent
HEAVY = {"torch", "transformers", "vllm", "lm_eval", "ray", "datasets"}
LIGHT = ["drop_ray", "drop_ray.cli", "drop_ray.config", "drop_ray.store.identity", "drop_ray.planning.requests"]
LIGHT += sorted({location.partition(":")[0] for location in STRATEGIES.own.values()})
LIGHT += [
    "drop_ray.report.html",
    "drop_ray.store",
    "drop_ray.store.tables",
    "drop_ray.evaluation",
]
PRIVATE = re.compile(r"_(?!_)")
# They lie beside an exported checkpoint, too, and so import nothing of drop_ray. The canary tests know their uses.
BESIDE_CHECKPOINTS = {"modeling_dropped.py", "modeling_deepseek.py", "configuration_deepseek.py"}
BESIDE_CHECKPOINTS |= {"configuration_decilm.py", "split_experts.py", "sublayers.py"}
# models/, scoring/ and refit/ run on any GPU machine with a plain PyTorch image.
PORTABLE = {"torch", "transformers", "accelerate", "safetensors", "numpy", "fsspec", "huggingface_hub", "drop_ray"}
DATACLASS = re.compile(r"(dataclasses\.)?dataclass\b")


def imported(path):
    """Top-level names of everything a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def uses(path):
    """What of other libraries a file uses by a name with one underscore in front, and `unittest.mock`."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            names = [node.attr]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[:2] == ["unittest", "mock"] or any(PRIVATE.match(part) for part in parts):
                yield node.lineno, name


def defined(path):
    """Names of functions and classes of a file, and of the attributes of its objects."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def test_private_parts_of_libraries_are_used_in_one_file_for_each():
    files = [path for path in PACKAGE.rglob("*.py") if not path.name.endswith("_private.py")]
    # `os._exit` is documented.
    own = {name for path in files if path.name not in BESIDE_CHECKPOINTS for name in defined(path)} | {"_exit"}
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in files
        if path.name not in BESIDE_CHECKPOINTS
        for line, name in uses(path)
        if name not in own
    ]
    assert found == []


def test_every_file_of_private_parts_has_a_canary_test():
    """And is the only one of its library."""
    files = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*_private.py")]
    tests = {path.relative_to(Path(__file__).parent) for path in Path(__file__).parent.rglob("test_private_*.py")}
    libraries = {path: path.name.removesuffix("_private.py") for path in files}
    assert {path.with_name(f"test_private_{library}.py") for path, library in libraries.items()} == tests
    assert len(set(libraries.values())) == len(files)


def test_a_canary_names_the_library_its_version_and_the_symbol():
    with (
        pytest.raises(CanaryError, match=r"^ray \d+\.\d+\.\d+: ray\.util:gone: AttributeError: .*gone"),
        canary("ray", "ray.util:gone"),
    ):
        pass
    expected = r"^ray [\d.]+: ray:init: AssertionError: its parameters are address, expected are server"
    with pytest.raises(CanaryError, match=expected), canary("ray", "ray:init") as init:
        check_parameters(init, "server")


def test_only_runtime_imports_ray():
    importing = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py") if "ray" in imported(path)}
    assert importing == {"runtime"}


@pytest.mark.parametrize("folder", ["models", "scoring", "refit"])
def test_models_and_scoring_need_little(folder):
    for path in (PACKAGE / folder).rglob("*.py"):
        assert set(imported(path)) - set(sys.stdlib_module_names) <= PORTABLE, path


def drop_ray_imports(path):
    """Modules of drop_ray that a file needs to run, anywhere in it; not those that name types only."""
    found = set()
    nodes = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("drop_ray."):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        nodes += ast.iter_child_nodes(node)
    return found


def test_no_imports_go_in_a_circle():
    names = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    graph = {name: (drop_ray_imports(path) & names.keys()) - {name} for name, path in names.items()}
    # A package that gives out what its files have is no step of a circle of its own.
    packages = {name for name, path in names.items() if path.name == "__init__.py"}
    graph = {name: needed - packages for name, needed in graph.items() if name not in packages}
    assert [*TopologicalSorter(graph).static_order()]


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_without_the_heavy_libraries(module):
    code = f"import {module}, sys; print(*(name for name in {sorted(HEAVY)} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_help_names_every_command_and_needs_no_heavy_library():
    code = "import sys; from drop_ray.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += f"print('HEAVY', *(name for name in {sorted(HEAVY | {'pydantic', 'pyarrow'})} if name in sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert re.search(r"^HEAVY$", output, re.MULTILINE)
    for command in ("run", "score", "plan", "export", "evaluate", "report", "status"):
        assert re.search(rf"^    {command} ", output, re.MULTILINE)


def test_a_config_that_is_not_there_is_said_before_seconds_of_imports():
    commands = [["run"], ["run", "--dry-run"], ["score"], ["status"], ["verify"], ["submit", "--address", "http://h:1"]]
    code = "import sys; from drop_ray.cli import main\n"
    code += f"for command in {commands}: print(main([*command, 'nope.yaml']))\n"
    code += f"print('HEAVY', *(name for name in {sorted(HEAVY)} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2"] * len(commands) + ["HEAVY"]
    assert done.stderr == "drop-ray: nope.yaml: no such file\n" * len(commands)


def dataclass_fields(tree):
    """(Class.field, whether a docstring of one line follows it) for every field of every dataclass."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(map(DATACLASS.match, map(ast.unparse, node.decorator_list))):
            for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(statement, ast.AnnAssign) and "ClassVar" not in ast.unparse(statement.annotation):
                    yield f"{node.name}.{ast.unparse(statement.target)}", is_line_of_text(following)


def is_line_of_text(statement):
    value = getattr(statement, "value", None)
    is_text = isinstance(statement, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str)
    return is_text and bool(value.value.strip()) and statement.lineno == statement.end_lineno


def test_a_field_without_a_docstring_of_its_own_is_found():
    code = '''
@dataclass(frozen=True)
class A:
    """Of the class."""
    first: int
    """A line."""
    second: int = 0
    third: int
    """Two
    lines."""
    fourth: int
class B:
    none: int
'''
    found = {"A.first": True, "A.second": False, "A.third": False, "A.fourth": False}
    assert dict(dataclass_fields(ast.parse(code))) == found


def test_every_field_of_a_dataclass_has_a_docstring_of_one_line():
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}: {field}": is_documented
        for path in PACKAGE.rglob("*.py")
        for field, is_documented in dataclass_fields(ast.parse(path.read_text()))
    }
    missing = [name for name, is_documented in found.items() if not is_documented]
    assert "store/steps.py: Commit.step" in found
    assert missing == []
