"""How tables and text fit a terminal, and that nothing is folded or cut in a pipe."""

import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench import Bench, ScriptedPool, small_study
from tuner.cli.results.show import show
from tuner.cli.terminal.terminal_tables import print_table, print_text
from tuner.datasets.store import DatasetInfo
from tuner.home import Home
from tuner.spec.study_spec import StudySpec
from tuner.storage.attempts import Ledger
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.study.confirmation.race_study import confirmation_of
from tuner.study.study import Study
from tuner.training.plan import TrialPlan

NORMALIZATIONS = ["batch_normalization_with_momentum", "none at all"]
SPACE = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "smoothing_of_the_labels_of_each_class": {"type": "float", "low": 0, "high": 0.3},
    "first_block_normalization": {"type": "choice", "choices": NORMALIZATIONS},
    "dropout_rate": 0.5,
}
WIDTHS = [60, 80, 120, 200]
RUN = "0123456789abcdef0123456789abcd"


class Screen(io.StringIO):
    """Standard output of a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        """What it shows, without bold type."""
        return re.sub(r"\x1b\[[\d;]*m", "", self.getvalue())


@contextmanager
def terminal(width: int) -> Iterator[Screen]:
    """Makes standard output a terminal of this width inside the block."""
    screen = Screen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        patch.setattr(sys, "stdout", screen)
        yield screen


def quality(plan: TrialPlan, _epoch: int) -> float:
    """Of a training: its point's own, and a seed's."""
    own = 0.1 * float(plan.params["smoothing_of_the_labels_of_each_class"])
    return 0.9 + own + plan.seed % 1000 / 1e6


def run(bench: Bench, spec: StudySpec) -> None:
    """Runs a study, and names the runs of its attempts."""
    bench.run(spec, ScriptedPool(curve=quality))
    ledger = Ledger(bench.database, spec.name)
    for number, attempt in enumerate(ledger.attempts()):
        ledger.name_run(attempt.uid, f"{RUN}{number:02}")


@pytest.fixture(scope="module", params=[1, 3], ids=["one seed", "three seeds"])
def confirmed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a confirmed study, whose parameters have long names and values."""
    home = Home(tmp_path_factory.mktemp("tables"))
    home.create()
    dataset = DatasetInfo(
        name="digits", digest="0" * 64, source="a test", folder=home.root, image_shape=(8, 8, 1),
        classes=("0", "1"), train_count=100, test_count=20, background="dark", content_fraction=1,
    )  # fmt: skip
    spec = small_study(search_space=SPACE, baseline=[], seeds=request.param, trials=4)
    with open_database(home) as database:
        bench = Bench(home, database, dataset)
        run(bench, spec)
        study = Study(home, database, Catalog(database).get("small"))
        run(bench, confirmation_of(study, {"max_seeds": 5}).spec)
    return home


@pytest.fixture
def shown(confirmed: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Shows the study."""
    monkeypatch.setenv("TUNER_HOME", str(confirmed.root))
    return lambda: show("small")


def marks(text: str) -> Counter[str]:
    """The characters of a text, without those that fold it and the lines below heads."""
    return Counter(re.sub(r"[\s─]", "", text))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_terminal_of_any_width_shows_every_value_whole(
    shown: Callable[[], None], width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    shown()
    whole = capsys.readouterr().out
    with terminal(width) as screen:
        shown()
    text = screen.text
    assert max(map(len, text.splitlines())) <= width
    assert marks(text) == marks(re.sub(rf"{RUN}\d\d", RUN[:12], whole))
    words = set(text.split())
    numbers = re.findall(r"(?<![\w=])\d\S*\.\d+(?!\S)", whole)
    assert len(numbers) > 10
    assert words.issuperset(numbers), "a number is not folded while something else can be"
    assert RUN[:12] in words or width < 120


@pytest.mark.parametrize("colours", ["", "1"])
def test_a_pipe_gets_a_line_for_each_row_and_whole_runs(
    shown: Callable[[], None],
    colours: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    if colours:
        monkeypatch.setenv("FORCE_COLOR", colours)
    shown()
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    head = next(line for line in lines if line.split()[:2] == ["trial", "state"])
    assert "smoothing_of_the_labels_of_each_class" in head
    assert head.rstrip().endswith("MLflow run")
    rows = [line for line in lines if RUN in line]
    assert [line.split()[0] for line in rows] == [str(number) for number in range(len(rows))]
    assert all(any(each in row for each in NORMALIZATIONS) for row in rows)


def test_a_row_longer_than_any_terminal_is_one_line_in_a_pipe(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(["a", "b"], [["x" * 900, "y y " * 300]])
    row = capsys.readouterr().out.splitlines()[3]
    assert "x" * 900 in row
    assert ("y y " * 300).strip() in row


def test_what_moves_a_cursor_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    moving, written = "two\nlines \x1b[2J", r"two\nlines \x1b[2J"
    print_table([f"a {moving}"], [[f"b {moving}"]])
    shown = capsys.readouterr().out
    assert f"a {written}" in shown
    assert f"b {written}" in shown


@pytest.mark.parametrize("width", [1, 5, 12, 40])
def test_no_character_is_lost_that_is_two_columns_wide(width: int) -> None:
    texts = ["漢字", "名前", "長い値です", "7"]
    with terminal(width) as screen:
        print_table(texts[:2], [texts[2:]])
    assert marks(screen.text) == marks("".join(texts))


@pytest.mark.parametrize("width", [40, 80])
def test_text_on_a_terminal_breaks_between_words_and_never_in_an_advised_command(
    width: int,
) -> None:
    text = "which points differ from the best one and from the baseline is undecided until:"
    advised = "tuner confirm 'a study with a long name'"
    with terminal(width) as screen:
        print_text(f"{text}\n{text}", advised)
    lines = screen.text.splitlines()
    assert max(map(len, lines)) <= width
    assert [word for line in lines for word in line.split()] == f"{text} {text} {advised}".split()
    assert lines[-1].endswith(advised)


def test_heads_fold_before_any_cell_does() -> None:
    with terminal(20) as screen:
        print_table(["learning_rate", "standard deviation"], [["0.0002142", "0.0123456"]])
    lines = [line.split() for line in screen.text.splitlines() if line.strip()]
    assert lines[0] == ["learning_", "standard"]
    assert lines[1] == ["rate", "deviation"]
    assert lines[3] == ["0.0002142", "0.0123456"]


def test_a_time_is_folded_before_its_number_and_not_behind_it() -> None:
    with terminal(22) as screen:
        print_table(["time", "MLflow run"], [["3 min 20 s", "0123456789ab"]])
    lines = [line.strip() for line in screen.text.splitlines()]
    assert any(line.startswith("3 min ") for line in lines)
    assert "20 s" in lines


def test_a_table_without_rows_shows_its_heads_on_the_narrowest_terminal(tmp_path: Path) -> None:
    with terminal(1) as screen:
        print_table(["what", "found"], [], title=tmp_path.name)
    assert marks(screen.text) == marks(f"whatfound{tmp_path.name}")
