import subprocess
import sys


def printed(program):
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


def test_what_stays_is_not_searched_for_garbage_and_what_comes_later_is():
    program = (
        "import gc, sys; from guardrail.cli.importing import import_models; import_models();"
        "print('torch' in sys.modules, gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    assert printed(program) == "True True True"


def test_a_process_that_collects_no_garbage_goes_on_so():
    program = (
        "import gc; from guardrail.cli.importing import import_models;"
        "gc.disable(); import_models(); print(gc.isenabled())"
    )
    assert printed(program) == "False"


def test_models_that_cannot_be_imported_leave_the_collector_on():
    program = (
        "import gc, sys; from guardrail.cli.importing import import_models; sys.modules['torch'] = None\n"
        "try: import_models()\n"
        "except ImportError: print(gc.isenabled(), gc.get_freeze_count())"
    )
    assert printed(program) == "True 0"
