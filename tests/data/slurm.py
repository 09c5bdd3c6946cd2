"""A Slurm of one machine, as far as an array job sees it: `sbatch --wait`, `srun`, `scontrol`, `scancel`."""

import os
import stat
import sys
from pathlib import Path

_COMMANDS = {
    # Runs the script once for each number of its --array, one after another; fails like `sbatch --wait` if one fails.
    "sbatch": """
import os, re, subprocess, sys, pathlib
*options, script = sys.argv[1:]
text = pathlib.Path(script).read_text()
directives = dict(re.findall(r"^#SBATCH --([\\w-]+)=?(.*)$", text, re.M))
assert {"partition", "time", "wait", "output"} <= directives.keys(), directives
assert options[0].startswith("--export=ALL,"), options
first, last = map(int, directives["array"].partition("%")[0].split("-"))
exported = dict(pair.split("=") for pair in options[0].removeprefix("--export=ALL,").split(","))
failed = 0
for number in range(first, last + 1):
    inside = {**os.environ, **exported, "SLURM_ARRAY_TASK_ID": str(number), "SLURM_NODELIST": "node1"}
    inside["SLURM_JOB_ID"] = "7"
    output = directives["output"].replace("%A", "7").replace("%a", str(number))
    with open(output, "w") as log:
        failed |= subprocess.run(["bash", script], env=inside, stdout=log, stderr=log).returncode
pathlib.Path(os.environ["FAKE_SLURM_LOG"]).open("a").write(repr(directives) + "\\n")
print("Submitted batch job 7")
sys.exit(bool(failed))
""",
    "srun": """
import os, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words = words[2 if words[0] == "-n" else 1 :]
os.execvp(words[0], words)
""",
    "scontrol": "print('node1')",
    "scancel": """
import os, sys, pathlib
pathlib.Path(os.environ["FAKE_SLURM_LOG"]).open("a").write("scancel " + " ".join(sys.argv[1:]) + "\\n")
""",
}


def fake_slurm(folder: Path) -> dict[str, str]:
    """Write the commands into `folder`. Gives the environment variables under which they are found; `FAKE_SLURM_LOG`
    names a file that tells what was asked of them, a line each."""
    folder.mkdir()
    for name, code in _COMMANDS.items():
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{code}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "FAKE_SLURM_LOG": str(folder / "log"),
        "PYTHONWARNINGS": "ignore",
    }
