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


def test_what_transformers_reads_twice_is_read_once_and_comes_out_the_same():
    program = (
        "import sys; from guardrail.cli.importing import import_models; import_models()\n"
        "from transformers import models; from transformers.utils import import_utils as utils\n"
        "structure = utils.define_import_structure(models.__file__)\n"
        "whole = utils._LazyModule('whole', models.__file__, structure)\n"
        "print(models._class_to_module == whole._class_to_module, models._modules == whole._modules)"
    )
    assert printed(program) == "True True"


def test_what_is_for_detection_losses_alone_is_not_imported_and_can_be_had_afterwards():
    program = (
        "import sys; from guardrail.cli.importing import import_models; import_models()\n"
        "from transformers.utils import is_scipy_available as one\n"
        "from transformers.utils.import_utils import is_scipy_available as other\n"
        "print('scipy.optimize' in sys.modules, one(), other())"
    )
    assert printed(program) == "False True True"
