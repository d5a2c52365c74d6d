"""Stands in for Pulumi's command line: writes down how it was called, and answers what the tests put into `$FAKE_WORLD`.

    calls.jsonl       one line a call: arguments, the environment, the folder
    deployment.json   what `stack export` shows
    <verb>.out        what up, destroy or preview prints; <verb>.events its event log, <verb>.code its exit code
    config.code       the exit code of `config`, which shows settings decrypted
    wrong-passphrase  nothing can be encrypted; tried.yaml is what it was tried with
    <verb>.once       the same, the first time only; events, too, are of that run then
    <verb>.hangs      the verb runs until it is interrupted
    imported.json     what `stack import` was given, with the file's permissions in imported.mode

Stacks are files of the local back end, where the real one has them.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

WORLD = Path(os.environ["FAKE_WORLD"])
BACKEND = Path(os.environ["PULUMI_BACKEND_URL"].removeprefix("file://")) / ".pulumi"
STACKS = BACKEND / "stacks" / "istio-vms"
words = sys.argv[1:]


def after(option: str) -> str:
    return words[words.index(option) + 1]


def stack_command() -> None:
    match words[1]:
        case "ls":
            print(json.dumps([{"name": path.stem} for path in STACKS.glob("*.json")]))
        case "init":
            STACKS.mkdir(parents=True, exist_ok=True)
            file = Path(f"Pulumi.{words[2]}.yaml")
            lines = dict(line.split(": ", 1) for line in file.read_text().splitlines() if ": " in line)
            kind = after("--secrets-provider")
            if kind in ("default", "passphrase"):
                lines.setdefault("encryptionsalt", f"v1:salt-of-{words[2]}")
                provider = {"type": "passphrase", "state": {"salt": lines["encryptionsalt"]}}
            else:
                lines |= {"secretsprovider": kind, "encryptedkey": "key"}
                provider = {"type": "cloud", "state": {"url": kind, "encryptedkey": "key"}}
            file.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
            (STACKS / f"{words[2]}.json").write_text(json.dumps({"secrets_providers": provider}))
        case "export":
            file = WORLD / "deployment.json"
            deployment = json.loads((STACKS / f"{after('--stack')}.json").read_text())
            deployment |= json.loads(file.read_text()) if file.exists() else {}
            print(json.dumps({"version": 3, "deployment": deployment}))
        case "import":
            shutil.copy(after("--file"), WORLD / "imported.json")
            (WORLD / "imported.mode").write_text(oct(Path(after("--file")).stat().st_mode & 0o777))
        case "rm":
            (STACKS / f"{words[2]}.json").rename(STACKS / f"{words[2]}.json.bak")
        case other:
            sys.exit(f"error: no such command: stack {other}")


def operation(verb: str) -> int:
    interrupted: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))
    out, events, code, once = (WORLD / f"{verb}.{kind}" for kind in ("out", "events", "code", "once"))
    if events.exists():
        shutil.copy(events, after("--event-log"))
    if once.exists():
        events.unlink()
        answer = int(once.read_text())
        once.unlink()
        return answer
    if out.exists():
        sys.stdout.write(out.read_text())
        sys.stdout.flush()
    if (WORLD / f"{verb}.hangs").exists():
        print("begun", flush=True)
        (WORLD / "begun").touch()
        signal.pause()
        print(f"cancelling after {len(interrupted)} signal", flush=True)
        return 1
    return int(code.read_text()) if code.exists() else 0


with (WORLD / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({"words": words, "cwd": str(Path.cwd()), "env": dict(os.environ)}) + "\n")
if (WORLD / "refuses").exists():
    print("some words before\nerror: the back end cannot be reached", file=sys.stderr)
    sys.exit(255)
if words[0] == "stack":
    stack_command()
elif words[:2] == ["config", "set"]:
    if (WORLD / "wrong-passphrase").exists():
        sys.exit("error: incorrect passphrase")
    shutil.copy(after("--config-file"), WORLD / "tried.yaml")
else:
    sys.exit(operation(words[0]))
