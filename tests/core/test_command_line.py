"""What a command cannot take is said on one line, whichever command it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from collectors.__main__ import main as collectors
from reports.__main__ import main as reports
from storage.__main__ import main as storage

Main = Callable[[list[str]], int]


@pytest.mark.parametrize(("main", "name"), [(collectors, "collectors"), (reports, "reports"), (storage, "storage")])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "required: "), (["frobnicate"], "invalid choice: 'frobnicate'"), (["--no"], "required")],
)
def test_one_line_names_what_is_wrong_and_where_to_read_on(
    main: Main, name: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"python -m {name}: ")
    assert said in line
    assert line.endswith("--help")
