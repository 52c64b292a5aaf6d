"""Fixtures of the system tests: federations that are gone when the test ends."""
import pytest

from federation import BUILD, PROGRAMS, Federation


def pytest_sessionstart(session):
    missing = [p for p in PROGRAMS if not (BUILD / p).exists()]
    if missing:
        pytest.exit(f"{', '.join(missing)}: not in {BUILD}: make first", returncode=2)


@pytest.fixture
def federation():
    """Makes federations; stops them and checks that they ended well."""
    made = []

    def make(*words, **options):
        made.append(Federation(*words, **options))
        return made[-1]

    yield make
    wrong = []
    for f in made:
        try:
            f.close()
        except AssertionError as e:
            wrong.append(str(e))
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def figures(capsys):
    """Prints what was measured, whatever pytest captures."""
    def show(text):
        with capsys.disabled():
            print(f"\n    {text}", end="", flush=True)
    return show
