"""docs/api.md is what the docstrings say now, of every public name."""

from pathlib import Path

import api_reference

import multipy_actors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_page_is_what_the_docstrings_say():
    assert PAGE.read_text() == api_reference.reference(), (
        "python tests/docs/api_reference.py --write docs/api.md"
    )


def test_every_public_name_is_in_one_section():
    listed = [name for names in api_reference.SECTIONS.values() for name in names if "." not in name]
    assert sorted(listed) == sorted(set(multipy_actors.__all__))
