import errno

import pytest

from trainable.errors import nearest, storage_fault


@pytest.mark.parametrize(
    ("name", "expected"),
    [("droput", "; did you mean 'dropout'?"), ("dropout", "; did you mean 'dropout'?"), ("xyz", ""), ("", "")],
)
def test_the_nearest_known_name_is_offered_where_one_is_near(name: str, expected: str) -> None:
    assert nearest(name, ["depth", "dropout"]) == expected
    assert nearest(name, []) == ""


DISKS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM]
AWAY = [errno.ESTALE, errno.ENOTCONN, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENODEV]


@pytest.mark.parametrize("number", [*DISKS, *AWAY, errno.EMFILE, errno.ENFILE])
def test_a_fault_of_the_disk_is_named_with_its_file(number: int) -> None:
    assert storage_fault(OSError(number, "No room", "/a")) == "No room: /a"
    assert storage_fault(OSError(number, "No room")) == "No room"


def test_a_fault_of_the_disk_is_found_behind_what_was_raised_from_it() -> None:
    full = OSError(errno.ENOSPC, "No room")
    from_it, after_it = RuntimeError("unexpected pos"), ValueError()
    from_it.__cause__ = full
    after_it.__context__ = from_it
    assert storage_fault(after_it) == "No room"


def test_an_error_that_was_raised_from_itself_is_none() -> None:
    """As Ray does where its dashboard does not come."""
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = one, one
    one.__context__ = other
    assert storage_fault(other) is None


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(errno.ENOENT, "x"), OSError("x")])
def test_another_error_is_no_fault_of_the_disk(error: Exception) -> None:
    assert storage_fault(error) is None
