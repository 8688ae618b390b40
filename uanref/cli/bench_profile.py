"""``uanref bench --profile``: why layers are as fast as they are."""

from __future__ import annotations

from pathlib import Path

from uanref.cli.output import command_line, fail, progress, wide


def run(
    names: tuple[str, ...] | None,
    repeats: int,
    threads: int | None,
    json: Path | None,
    page: Path | None,
    source: Path | None,
    quiet: bool,
) -> None:
    """Profile, print, and write the numbers and the page; with ``source`` the page alone.

    Raises:
        ValueError: a ``source`` and no page to put it into, or what the modules of the profile refuse.
    """
    from uanref import files
    from uanref.bench import page as pages
    from uanref.bench import profile, profile_page, profile_record, profile_report

    if source is not None:
        if page is None:
            raise ValueError("--from needs --page, the page that the numbers are for")
        profile_page.write(page, profile_record.read(source))
        return
    for target, option in ((json, "--json"), (page, "--page")):
        if target is not None:
            files.check_target(target, option)
    if page is not None:
        pages.text(page, profile_page.MARKS)
    record, there = profile_record.begin(names, repeats, threads, command_line())
    total = len(profile.chosen(names))
    try:
        with progress(total, "profiled", quiet) as finished:
            for name in profile_record.run(names, there, threads, record):
                if json:
                    files.write_json(json, record.as_json())
                finished(name)
    except KeyboardInterrupt:
        kept = f", {json} has what was" if json and record.profiles else ""
        wide().print(profile_report.report(record))
        fail(f"interrupted: {len(record.profiles)} of {total} were profiled{kept}", 130)
    wide().print(profile_report.report(record))
    if page is not None:
        profile_page.write(page, record)
