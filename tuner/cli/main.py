"""The `tuner` command: the list of commands, and the one place that decides exit codes.

Results go to standard output, everything else to standard error. A command imports what it needs
when it runs, so that `tuner --help` stays fast.
"""

import gc
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from tuner.cli.catalogue import datasets, models, schema
from tuner.cli.results import evaluate, looks, predict, promote, registry, show, studies, verify
from tuner.cli.running import confirm, enqueue, pause, run_study, stop, watch, worker
from tuner.cli.upkeep import db, delete, doctor, sync, ui
from tuner.errors import ExitCode, TunerError, masked, os_error_message
from tuner.startup import configure_process

app = typer.Typer(
    name="tuner",
    help="Turn one reported training result into a study: sweep, compare, promote the best.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("run-study")(run_study.run_study)
app.command("confirm")(confirm.confirm)
app.command("studies")(studies.studies)
app.command("show")(show.show)
app.command("stop")(stop.stop)
app.command("pause")(pause.pause)
app.command("resume")(pause.resume)
app.command("watch")(watch.watch)
app.command("worker")(worker.worker)
app.command("delete")(delete.delete)
app.command("enqueue")(enqueue.enqueue)
app.command("promote")(promote.promote)
app.command("evaluate")(evaluate.evaluate)
app.command("looks")(looks.looks)
app.command("predict")(predict.predict)
app.command("verify")(verify.verify)
app.command("sync")(sync.sync)
app.command("doctor")(doctor.doctor)
app.command("ui")(ui.ui)
app.add_typer(db.db, name="db")
app.add_typer(registry.registry, name="registry")
app.command("datasets")(datasets.datasets)
app.command("models")(models.models)
app.command("schema")(schema.schema)

Handler = Callable[[int, FrameType | None], Any] | int | None

_debugging = False


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tuner {version('tuner')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option(help="Show tracebacks of errors.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    global _debugging
    _debugging = debug


def main(on_interrupt: Handler = signal.default_int_handler) -> NoReturn:
    """Runs the command line and ends the process with a documented exit code.

    Args:
        on_interrupt: the handler of Ctrl-C, as for `signal.signal`.
    """
    configure_process()
    try:
        signal.signal(signal.SIGINT, on_interrupt)
        app()
    except TunerError as error:
        if _debugging:
            typer.echo(masked(traceback.format_exc()), err=True)
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if _debugging:
            typer.echo(masked(traceback.format_exc()), err=True)
        typer.echo(f"error: {os_error_message(error)}", err=True)
        sys.exit(ExitCode.UNAVAILABLE)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    finally:
        gc.freeze()  # otherwise Python collects all imported objects at exit, up to half a second
    sys.exit(ExitCode.OK)
