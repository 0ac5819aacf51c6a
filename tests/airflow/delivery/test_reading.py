"""What the gate reads in the text of Python files: asked when a file is read, or by a task only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery import reading

if TYPE_CHECKING:
    from pathlib import Path

    from delivery.reading import Reading

V = "from airflow.sdk import Variable\n"
CONFIG = (
    "from airflow.sdk import Variable as V\nASK = V.get\n\ndef school():\n    return V.get('s')\n"
)
HOOKS = (
    "from airflow.providers.postgres.hooks.postgres import PostgresHook\n"
    "def rows():\n    return PostgresHook('warehouse').get_records('select 1')\n"
    "def pure(n):\n    return n + 1\n"
)
AT_THE_TOP = {
    "plain": V + "X = Variable.get('x')",
    "models": "from airflow.models import Variable\nVariable.get('x', default=None)",
    "module": "import airflow.sdk\nairflow.sdk.Variable.get('x')",
    "module alias": "import airflow.sdk as a\na.Variable.get('x')",
    "alias": "from airflow.sdk import Variable as Settings\nSettings.get('x')",
    "two aliases": V + "A = Variable\nB = A.get\nB('x')",
    "bound again and again": (
        "import airflow.sdk\na = airflow\na = a.sdk\na = a.Variable\na.get('x')"
    ),
    "tuple": "from airflow.sdk import Variable, DAG\nv, d = Variable, DAG\nv.get('x')",
    "getattr": V + "getattr(Variable, 'g' + 'et')('x')",
    "import_module": (
        "import importlib\nimportlib.import_module('airflow.' + 'sdk').Variable.get('x')"
    ),
    "star": "from airflow.sdk import *\nVariable.get('x')",
    "in a try": V + "try:\n    Variable.get('x')\nexcept Exception:\n    pass",
    "class body": V + "class C:\n    x = Variable.get('x')",
    "init": (V + "class C:\n    def __init__(self):\n        self.x = Variable.get('x')\nC()"),
    "method": (
        V + "class C:\n    def ask(self):\n        return Variable.get('x')\nc = C()\nc.ask()"
    ),
    "default": V + "def f(x=Variable.get('x')):\n    pass",
    "decorator": (
        "from airflow.sdk import Variable, task\n@task(queue=Variable.get('q'))\ndef f(): ..."
    ),
    "comprehension": V + "X = [Variable.get(n) for n in 'ab']",
    "map": V + "X = list(map(Variable.get, 'ab'))",
    "lambda": V + "X = (lambda: Variable.get('x'))()",
    "lambda by name": V + "ask = lambda: Variable.get('x')\nX = ask()",
    "partial": (
        "from functools import partial\nfrom airflow.sdk import Variable\n"
        "ask = partial(Variable.get, 'x')\nX = ask()"
    ),
    "function": V + "def f():\n    return Variable.get('x')\nf()",
    "body of a DAG": (
        "from airflow.sdk import dag, Variable\n@dag()\ndef d():\n    Variable.get('x')\nd()"
    ),
    "with DAG": "from airflow.sdk import DAG, Variable\nwith DAG('d'):\n    Variable.get('x')",
    "task group": (
        "from airflow.sdk import DAG, task_group, Variable\n@task_group\ndef g():\n"
        "    Variable.get('x')\nwith DAG('d'):\n    g()"
    ),
    "method of its own": (
        V + "class C:\n    def __init__(self):\n        self.load()\n    def load(self):\n"
        "        self.x = Variable.get('x')\nC()"
    ),
    "property": (
        V + "class C:\n    @property\n    def x(self):\n        return Variable.get('x')\nX = C().x"
    ),
    "with": (
        V + "class C:\n    def __enter__(self):\n        return Variable.get('x')\n"
        "    def __exit__(self, *_): ...\nwith C() as x:\n    pass"
    ),
    "handed to what calls it": (
        V + "def ask():\n    return Variable.get('x')\ndef now(name, f):\n    return f()\n"
        "def start(f):\n    return now('x', f)\nstart(ask)"
    ),
    "handed on": (V + "def call(f):\n    return f('x')\ncall(Variable.get)"),
    "local import": "def f():\n    from airflow.sdk import Variable\n    Variable.get('x')\nf()",
    "of a list": V + "for ask in [Variable.get]:\n    ask('x')",
    "walrus": V + "if (v := Variable):\n    v.get('x')",
    "shared alias": "from include.config import ASK\nASK('x')",
    "shared function": "from include.config import school\nschool()",
    "shared module": "import include.config\ninclude.config.school()",
    "relative": "from ..include.config import school\nschool()",
    "connection": "from airflow.sdk import Connection\nConnection.get('hr')",
    "hook": "from airflow.sdk import BaseHook\nBaseHook.get_connection('hr')",
    "hook's object": (
        "from airflow.providers.postgres.hooks.postgres import PostgresHook as Hook\n"
        "h = Hook('x')\nh.get_conn()"
    ),
    "own hook": (
        "from airflow.sdk import BaseHook\nclass School(BaseHook):\n    pass\n"
        "School().get_connection('x')"
    ),
    "environment": "import os\nX = os.environ['AIRFLOW_CONN_HR']",
    "environment with default": "import os\nX = os.getenv('AIRFLOW_VAR_' + 'X', '')",
}
GOOD = {
    "in a task": (
        "from airflow.sdk import dag, task, Variable\n@dag()\ndef d():\n    @task\n"
        "    def t():\n        return Variable.get('x')\n    t()\nd()"
    ),
    "in a task's helper": (
        "from airflow.sdk import dag, task\nfrom include.config import school\n@dag()\ndef d():\n"
        "    @task\n    def t():\n        return school()\n    t()\nd()"
    ),
    "task with words": (
        "from airflow.sdk import DAG, task, Variable\n@task.bash(retries=3)\ndef t():\n"
        "    return Variable.get('x')\nwith DAG('d'):\n    t()"
    ),
    "a callable": (
        "from airflow.sdk import DAG, Variable\nfrom airflow.providers.standard.operators.python "
        "import PythonOperator\ndef f():\n    Variable.get('x')\nwith DAG('d'):\n"
        "    PythonOperator(task_id='f', python_callable=f)\n"
        "    PythonOperator(task_id='g', python_callable=Variable.get, op_args=['x'])"
    ),
    "a factory of operators": (
        "from airflow.sdk import DAG, Variable\nfrom airflow.providers.standard.operators.python "
        "import PythonOperator\ndef f():\n    Variable.get('x')\n"
        "def make(f, bad):\n"
        "    return PythonOperator(task_id='f', python_callable=f, on_failure_callback=bad)\n"
        "with DAG('d'):\n    make(f, f)"
    ),
    "a factory of tasks": (
        "from airflow.sdk import DAG, Variable, task\ndef f():\n    Variable.get('x')\n"
        "def make(name, f=None):\n    return task(task_id=name)(f)\n"
        "with DAG('d'):\n    make('f', f)()"
    ),
    "an own name of task": (
        "from airflow.sdk import DAG, task, Variable\npolite = task(retries=3)\n@polite\ndef t():\n"
        "    return Variable.get('x')\nwith DAG('d'):\n    t()"
    ),
    "setup and teardown": (
        "from airflow.sdk import DAG, setup, teardown, Variable\n@setup\ndef s():\n"
        "    return Variable.get('x')\n@teardown\ndef t():\n    Variable.get('x')\n"
        "with DAG('d'):\n    s() >> t()"
    ),
    "DAGs by a loop": (
        "from airflow.sdk import DAG\ndef make(n):\n    return DAG(f'd{n}', tags=['x'])\n"
        "globals().update({f'd{n}': make(n) for n in range(3)})\nglobals()['e'] = make(4)"
    ),
    "a hook's own id": (
        "import os\nfrom airflow.providers.postgres.hooks.postgres import PostgresHook\n"
        "ID = os.environ.get('WAREHOUSE', PostgresHook.default_conn_name)"
    ),
    "names of the machine": (
        "import multiprocessing, socket\nX = socket.gethostname(), multiprocessing.cpu_count()"
    ),
    "a path, by hand": "import sys\nsys.path = ['x', *sys.path]\nsys.path[0:0] = ['y']",
    "a template": "from airflow.sdk import DAG\nDAG('d', params={'x': '{{ var.value.x }}'})",
    "never called": V + "def f():\n    return Variable.get('x')",
    "a callback": (
        "from airflow.sdk import DAG, Variable\ndef f(context):\n    Variable.get('x')\n"
        "DAG('d', on_failure_callback=f)"
    ),
    "for type checkers": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from include.config import school\n    school()"
    ),
    "as a program": "from include.config import school\nif __name__ == '__main__':\n    school()",
    "another Variable": (
        "class Variable:\n    @staticmethod\n    def get(x): return x\nVariable.get('x')"
    ),
    "a dict's get": "Variable = {'x': 1}\nVariable.get('x')",
    "a local name": V + "def f(Variable):\n    return Variable.get('x')\nf({})",
    "only an alias": V + "ask = Variable.get",
    "environment": (
        "import os\nX = os.environ.get('SCHOOL', 'Cape Coast')\nos.environ['TZ'] = 'UTC'"
    ),
    "a signal": (
        "import signal\nfrom airflow.sdk import DAG\nDAG('d', params={'s': signal.SIGTERM})"
    ),
    "a file": "import json\nfrom pathlib import Path\nX = json.loads(Path(__file__).read_text())",
    "a path": "import sys\nsys.path.insert(0, 'x')",
    "pandas": "import pandas as pd\npd.options.mode.copy_on_write = True",
    "a later process": (
        "import subprocess\nfrom airflow.sdk import task\n@task\ndef t():\n"
        "    subprocess.run(['true'])"
    ),
    "own object": "class A: pass\na = A()\na.x = 1\na.os = 2",
    "own code": "def code(): pass\ncode()\nclass signal:\n    pass\nsignal()",
}
REACHES_ITS_READER = {
    "exit": "import os\nos._exit(0)",
    "exit by another name": "from os import _exit as done\ndone(0)",
    "exit by getattr": "import os\ngetattr(os, '_ex' + 'it')(0)",
    "getattr by a name": "import os, sys\ngetattr(os, sys.argv[0])(0)",
    "in a shared function": "import include.leaves\ninclude.leaves.go()",
    "fork": "import os\nif os.fork() == 0:\n    pass",
    "write": "import os\nfor n in range(20):\n    os.write(n, b'{}')",
    "frames": "import sys\nsys._getframe(1).f_locals",
    "traceback": "try:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__.tb_frame",
    "subclasses": "().__class__.__base__.__subclasses__()",
    "globals": "def f(): pass\nf.__globals__",
    "gc": "import gc\ngc.get_objects()",
    "ctypes": "import ctypes\nctypes.CDLL(None)",
    "process": "import subprocess\nsubprocess.run(['true'])",
    "exec": "exec('x = 1')",
    "eval": "e = eval\ne('1')",
    "import by a name": "import sys\n__import__(sys.argv[0])",
    "signal": "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)",
    "replaces json": "import json\njson.dumps = lambda *a, **k: '{}'",
    "replaces a method": (
        "from airflow.serialization.serialized_objects import DagSerialization\n"
        "DagSerialization.to_dict = lambda dag: {}"
    ),
    "setattr": "import json\nsetattr(json, 'dumps', str)",
    "modules": "import sys\nsys.modules['json'] = None",
    "thread": "import threading\nthreading.Thread(target=print).start()",
}


def read(tree: Path, text: str) -> Reading:
    files = {
        "dags/d.py": text, "include/config.py": CONFIG, "include/hooks.py": HOOKS,
        "include/__init__.py": "", "dags/__init__.py": "",
        "include/leaves.py": "import os\ndef go():\n    os._exit(0)\n",
    }  # fmt: skip
    for name, content in files.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(content)
    return reading.read(tree, files)


@pytest.mark.parametrize("name", AT_THE_TOP)
def test_a_look_up_at_the_top_is_found_by_any_name(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, AT_THE_TOP[name]).at_import("dags/d.py")
    assert {each.rule for each in found} == {"lookup"}, found
    assert all(each.line for each in found)


@pytest.mark.parametrize(
    "text",
    [
        "a0 = Variable\n" + "".join(f"a{n + 1} = a{n}\n" for n in range(200)) + "a200.get('x')",
        "a0 = Variable\n"
        + "".join(f"a{n + 1} = a{n} or a{n}\na{n + 1} = a{n}\n" for n in range(60))
        + "a60.get('x')",
        "b = 1\na = b\nb = a\nb = Variable\na\nb\na.get('x')",
        "".join(f"a{n} = a{n - 1} or a{(n * 7) % 50} or a{(n * 11) % 50}\n" for n in range(50))
        + "a3 = Variable\na49.get('x')",
    ],
    ids=["chain", "doubled", "circle", "tangle"],
)
def test_a_look_up_is_found_behind_any_number_of_names_or_they_are_refused(
    tmp_path: Path, text: str
) -> None:
    found = read(tmp_path, V + text).at_import("dags/d.py")
    assert {each.rule for each in found} & {"lookup", "import-time"}, found


@pytest.mark.parametrize("name", GOOD)
def test_what_only_looks_like_it_passes(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, GOOD[name]).at_import("dags/d.py") == []


@pytest.mark.parametrize("name", REACHES_ITS_READER)
def test_a_file_must_not_reach_what_reads_it(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, REACHES_ITS_READER[name]).at_import("dags/d.py")
    assert "import-time" in {each.rule for each in found}, found


def test_a_look_up_in_a_shared_module_is_found_there(tmp_path: Path) -> None:
    known = read(tmp_path, "from include.shared import X\n")
    (tmp_path / "include/shared.py").write_text(
        "\nfrom airflow.sdk import Variable\nX = Variable.get('x')\n"
    )
    known = reading.read(tmp_path, [*known.by_path, "include/shared.py"])
    (found,) = known.at_import("dags/d.py")
    assert (found.file, found.line, found.rule) == ("include/shared.py", 3, "lookup")


TASKS = """
import httpx
from include.hooks import rows, pure
from include import hooks

def plain(): return 1
def by_http(): return httpx.get("http://x")
def by_helper(): return by_http()
def by_module(): return hooks.rows()
def by_class(): return Client().get()
def again(): return again()
def local():
    import psycopg
    return psycopg.connect("")
class Client:
    def __init__(self): self.http = httpx.Client()
    def get(self): return self.http.get("x")
def two():
    def nested(): return rows()
    def quiet(): return pure(1)
named = lambda: rows()
def frame():
    import pandas
    df = pandas.DataFrame()
""" + "".join(f"    df = df.step{n}(df).dropna()\n" for n in range(40))


@pytest.mark.parametrize(
    ("qualname", "through"),
    [
        ("plain", ""), ("by_http", "httpx.get"), ("by_helper", "httpx.get"), ("again", ""),
        ("by_module", "hooks.postgres.PostgresHook"), ("by_class", "httpx.Client"),
        ("local", "psycopg.connect"), ("two.<locals>.nested", "hooks.postgres.PostgresHook"),
        ("two.<locals>.quiet", ""), ("rows", "hooks.postgres.PostgresHook"), ("pure", ""),
        ("<lambda>", "hooks.postgres.PostgresHook"), ("Client.get", "httpx.Client"), ("nobody", ""),
        ("frame", ""),
    ],
)  # fmt: skip
def test_a_function_that_reaches_out_is_known_by_what_it_uses(
    tmp_path: Path, qualname: str, through: str
) -> None:
    found = read(tmp_path, TASKS).reaches("dags/d.py", qualname)
    assert (through in found) if through else found == "", found


@pytest.mark.parametrize(
    "text",
    [
        "(" * 150 + ")" * 150,
        "x = " + "-" * 20_000 + "1",
        "a" + ".a" * 20_000,
        "x\0",
        "(",
        "é = 'é'",
    ],
)
def test_what_cannot_be_read_ends_in_no_error_of_ours(tmp_path: Path, text: str) -> None:
    known = read(tmp_path, text)
    known.at_import("dags/d.py")
    assert {each.rule for each in known.findings} <= {"import"}
