"""`muster data`: which data sets there are, whether a copy is whole, and packing it ahead of a run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from muster.orchestrator.cli.made import function_of
from muster.orchestrator.cli.options import AsJson, Storage, guarded
from muster.orchestrator.console.say import tell
from muster.orchestrator.console.screen import out
from muster.orchestrator.console.tables import show_document, show_rows
from muster.orchestrator.methods.flags import picture_flags
from muster.orchestrator.settings.checks import whole_path
from muster.workers.errors import UsageError

Name = Annotated[str, typer.Argument(help="The data set: see `muster data list`.")]
Root = Annotated[str | None, typer.Option("--data-root", "--root", help="The folder of your copy.")]
Preset = Annotated[str | None, typer.Option(help="Whose resize rules: paper, code or glyphs.")]
ImageSize = Annotated[int | None, typer.Option(help="Picture side in px. (default: the preset's)")]


@guarded
def data_list(as_json: AsJson = False) -> None:
    """The data sets that muster reads: what each is, its licence, where it is obtained, its layouts."""
    from muster.orchestrator.images.packs import described

    found = described()
    if as_json:
        show_document(found)
        return
    out.print("muster downloads nothing: obtain a copy, and give its folder as --data-root.\n")
    for one in found:
        _print_description(one)


def _check(
    settings: dict[str, Any],
    *,
    name: str,
    root: str | None,
    as_json: bool,
) -> None:
    """Compares a copy with what was published: files, lists, images and counts; accounts for every file of a folder. No
    image is decoded."""
    from muster.orchestrator.images.packs import data_request, examine

    found = examine(data_request(name, root, settings))
    if as_json:
        show_document(found)
        for problem in [*found["differences"], *found["warnings"], *found["problems"]]:
            tell(f"muster: {problem}")
    else:
        if found["tree"]:
            show_rows(found["tree"], title=f"{found['title']} at {found['home']}")
            out.print()
        if found["splits"]:
            show_rows(found["splits"], title="")
            out.print()
        for text in [*found["differences"], *found["warnings"]]:
            tell(f"muster: {text}")
        if not found["problems"]:
            out.print("It is as published." if found["as_published"] else "It can be used.")
    if found["problems"] and not as_json:
        raise UsageError(found["problems"])
    raise typer.Exit(UsageError.exit_code if found["problems"] else 0)


def _pack(
    settings: dict[str, Any],
    *,
    name: str,
    root: str | None,
    storage: str | None,
    preset: str | None,
    image_size: int | None,
    as_json: bool,
) -> None:
    """Builds the packs that a launch with the same preset and size reads. What is packed already is left alone."""
    from muster.orchestrator.console.packbar import packing_bars
    from muster.orchestrator.images.packs import data_request, pack

    where = whole_path("store" if storage is None else storage)
    request = data_request(name, root, settings)
    with packing_bars() as progress:
        found = pack(request, where, preset, image_size, progress)
    for text in [*found["differences"], *found["warnings"]]:
        tell(f"muster: {text}")
    if as_json:
        show_document(found)
        return
    show_rows([_pack_row(row) for row in found["packs"]], title="")
    for row in found["packs"]:
        for image in row["bad"]:
            tell(f"left out: {image['image_id']}: {image['cause']}")


def _pack_row(row: dict[str, Any]) -> dict[str, Any]:
    """A pack in 80 columns."""
    shown = {k: v for k, v in row.items() if k not in {"bad", "bytes", "images_per_s"}}
    speed = "-" if row["images_per_s"] is None else f"{row['images_per_s']:,.0f}"
    return {**shown, "pack": row["pack"][:12], "MB": f"{row['bytes'] / 1e6:,.1f}", "images/s": speed}


def _print_description(one: dict[str, Any]) -> None:
    def line(text: str) -> None:
        out.print(text, markup=False, highlight=False, soft_wrap=True)

    out.print(f"[bold]{one['name']}[/bold]  {one['title']}: {one['what']}")
    for label in ("licence", "obtained", "counts", "counts_source", "note"):
        value = one[label]
        if label == "counts":
            value = "; ".join(
                f"{r['part']} {r['images']:,} images of {r['classes']:,} classes" for r in value
            )
        if value:
            line(f"  {label.replace('_', ' ')}: {value}")
    for tree in one["layouts"]:
        line(f"  layout{' ' + tree['layout'] if tree['layout'] else ''}: {tree['folder']}")
        for row in tree["files"]:
            line(f"    {row['path']:38} {row['holds']}")
    line("")


app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("list")(data_list)
_COMMON = {"name": Name, "root": Root, "as_json": AsJson}
for _name, _run, _own in (
    ("check", _check, {}),
    ("pack", _pack, {"storage": Storage, "preset": Preset, "image_size": ImageSize}),
):
    app.command(_name, help=_run.__doc__)(guarded(function_of(picture_flags(), _run, {**_COMMON, **_own})))
