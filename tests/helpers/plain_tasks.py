"""Plain tasks that do as they are told."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

from aggregator.execution import plain_tasks, task_errors

_GROUPS = ("inputs", "prerequisites", "outputs", "init_inputs", "init_outputs")


class ToldTask:
    """Reads what can be read, and writes all outputs, unless it is told otherwise."""

    def __init__(self, config: dict[str, Any], init_inputs: dict[str, Any]) -> None:
        self.config = config
        self.metadata: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("config", {}).get("init_outputs", ()):
            return {"made": name}
        raise AttributeError(name)

    @staticmethod
    def connections(config: dict[str, Any]) -> dict[str, dict[str, plain_tasks.Connection]]:
        return {
            group: {name: plain_tasks.Connection(*each) for name, each in config[group].items()}
            for group in _GROUPS
        }

    def run_quantum(self, butler: Any, inputs: Any, outputs: Any) -> None:
        key = "/".join(map(str, butler.data_id.required.values()))
        file = pathlib.Path(self.config["told"])
        told = json.loads(file.read_bytes()) if file.exists() else {"modes": {}, "marks": ""}
        mode = told["modes"].get(butler.quantum.task_label, {}).get(key, "ok")
        logging.getLogger("told").info("mode %s", mode)
        self.metadata = {"mode": mode, "nested": {"numbers": [1, 2]}}
        if told["marks"]:
            pathlib.Path(told["marks"], str(butler.quantum_id)).touch()
        if mode.startswith("later "):
            mode = mode.removeprefix("later ")
            while len(list(pathlib.Path(told["marks"]).iterdir())) < 2:
                time.sleep(0.01)
        if mode.startswith("await "):
            mode, path = mode.removeprefix("await ").split(" ", 1)
            while not pathlib.Path(path).exists():
                time.sleep(0.01)
        if mode != "fail":
            for _, refs in outputs:
                butler.put({"id": str(refs.id), **({"by": os.getpid()} if mode == "sign" else {})}, refs)
        self._do(mode)

    def _do(self, mode: str) -> None:
        match mode:
            case "fail":
                raise ValueError("told to fail")
            case "repeatable":
                raise task_errors.Repeatable("again and again")
            case "invalid":
                raise task_errors.InvalidQuantum("not this one")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill with child":
                # It inherits everything, the worker's end of its pipe too.
                command = [sys.executable, "-c", "import time; time.sleep(30)", self.config["told"]]
                subprocess.Popen(command, close_fds=False)
                os.kill(os.getpid(), signal.SIGKILL)
            case "fork":
                if os.fork() == 0:
                    raise ValueError("nobody is to hear of this")
                os.wait()
            case "upset":
                os.chdir("/")
                os.umask(0o777)
                logging.disable(logging.CRITICAL)
                logging.basicConfig(level=logging.CRITICAL, force=True)
                # Only results of the command are to be there.
                print("a task's own words", flush=True)
            case "exit":
                os._exit(9)
            case "sysexit":
                raise SystemExit(7)
            case "nap":
                time.sleep(2)
            case "sleep":
                time.sleep(600)
