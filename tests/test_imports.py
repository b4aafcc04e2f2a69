"""Who may import whom, and how long modules and functions may be: read from the syntax trees."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mlffjax"

#: Layers from the bottom up; a part imports itself and the layers below, never its neighbours.
LAYERS = (
    ("allocator", "xla_flags", "types", "units", "interruption", "compaction"),
    ("config",),
    ("graph",),
    ("neighbors",),
    ("data",),
    ("nn",),
    ("precision",),
    ("models",),
    ("potential",),
    ("checkpoint", "calculator", "pair_potentials", "stillinger_weber_model"),
    ("training", "md", "interop"),
    ("explore", "analysis"),
    ("plots", "prediction", "fine_tuning"),
    ("workflow", "simulation", "exploration", "analyze"),
    ("dry_run", "quickstart", "replica_simulation"),
    ("cli",),
    ("__main__",),
)
#: Parts that see less than their layer would let them.
ONLY = {
    "types": (),
    "units": (),
    "neighbors": ("config", "types", "units", "graph"),
    "data": ("config", "types", "units", "graph", "neighbors"),
    "plots": (),
}
#: External packages and the only parts (or modules) that import them.
CONFINED = {
    "orbax": ("checkpoint",),
    "jax_md": ("md", "explore"),
    "matplotlib": ("plots",),
    "pydantic": ("config", "workflow"),
    "vesin": ("neighbors", "md"),
}
#: Imports against the order that are made inside a function and delegate to the layer above.
DELEGATED = {("mlffjax.potential", "mlffjax.checkpoint.save")}
MAX_MODULE = 500
MAX_FUNCTION = 80


def modules() -> list[Path]:
    """All modules of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """``mlffjax.nn.scatter`` for ``mlffjax/nn/scatter.py``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module) -> set[str]:
    """Dotted names of everything a module imports, also inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "a relative import; write it in full"
            assert not node.level, "a relative import; write it in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(name: str) -> str:
    """The part of the package a dotted name lies in, ``""`` for the package itself."""
    return [*name.split("."), ""][1]


def allowed(importer: str) -> set[str]:
    """Parts that ``importer`` may import besides itself."""
    if importer in ONLY:
        return set(ONLY[importer])
    height = next(index for index, layer in enumerate(LAYERS) if importer in layer)
    return {name for layer in LAYERS[:height] for name in layer}


def violations(name: str, tree: ast.Module) -> list[str]:
    """Imports of the module ``name`` that point the wrong way."""
    own = part(name)
    wrong = []
    for target in sorted(imports(tree)):
        top, other = target.split(".")[0], part(target)
        if top in CONFINED and own not in CONFINED[top]:
            wrong.append(f"{name} imports {top}, which only {', '.join(CONFINED[top])} may")
        if top != "mlffjax" or own in (other, "") or target == "mlffjax.__version__":
            continue
        if other not in allowed(own) and (name, target) not in DELEGATED:
            wrong.append(f"{name} imports {target}; {own} may see {sorted(allowed(own))}")
    return wrong


def sibling_models(name: str, tree: ast.Module) -> list[str]:
    """Other architectures that an architecture imports."""
    if part(name) != "models" or name in ("mlffjax.models", "mlffjax.models.base"):
        return []
    return [
        f"{name} imports {target}"
        for target in sorted(imports(tree))
        if target.startswith("mlffjax.models.") and target.split(".")[2] != "base"
    ]


def long_functions(tree: ast.Module) -> list[str]:
    """Functions of more lines than allowed."""
    return [
        f"{node.name} has {length} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION
    ]


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_module_keeps_the_order(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    name = dotted(path)
    wrong = violations(name, tree) + sibling_models(name, tree) + long_functions(tree)
    lines = len(text.splitlines())
    if lines > MAX_MODULE:
        wrong.append(f"{name} has {lines} lines; expected {MAX_MODULE} at most")
    assert not wrong, "\n".join(wrong)


def test_every_part_has_a_place() -> None:
    """A new part of the package must be given a layer."""
    placed = {name for layer in LAYERS for name in layer} | {"__init__"}
    found = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert found <= placed, f"no layer for {sorted(found - placed)}"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("mlffjax.graph", "from mlffjax.nn.scatter import masked"),
        ("mlffjax.training.loop", "from mlffjax.md import engine"),
        ("mlffjax.md.engine", "def f():\n    import mlffjax.training.loss"),
        ("mlffjax.data.frames", "from mlffjax import potential"),
        ("mlffjax.nn.scatter", "from mlffjax.models.base import Architecture"),
        ("mlffjax.training.state", "import orbax.checkpoint as ocp"),
        ("mlffjax.neighbors", "from jax_md import partition"),
        ("mlffjax.plots.parity", "from mlffjax.types import Forces"),
        ("mlffjax.checkpoint", "from mlffjax.cli import main"),
        ("mlffjax.models.mace", "from mlffjax import Potential"),
    ],
)
def test_wrong_direction_is_found(name: str, code: str) -> None:
    assert violations(name, ast.parse(code))


def test_right_direction_is_allowed() -> None:
    code = "import jax\nfrom mlffjax.models import build\nfrom mlffjax.graph import AtomGraph"
    assert not violations("mlffjax.potential", ast.parse(code))


def test_sibling_import_is_found() -> None:
    tree = ast.parse("from mlffjax.models.schnet import Interaction")
    assert sibling_models("mlffjax.models.painn", tree)
    assert not sibling_models("mlffjax.models", tree)


def test_long_function_is_found() -> None:
    assert long_functions(ast.parse("def f():\n" + "    x = 1\n" * MAX_FUNCTION))
    assert not long_functions(ast.parse("def f():\n" + "    x = 1\n" * (MAX_FUNCTION - 1)))
