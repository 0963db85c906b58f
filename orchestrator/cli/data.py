"""`muster data`: which data sets there are, whether a copy is whole, and packing it ahead of a run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from muster.orchestrator.cli.options import AsJson, Storage, guarded
from muster.orchestrator.console.say import tell
from muster.orchestrator.console.screen import out
from muster.orchestrator.console.tables import show_document, show_rows
from muster.orchestrator.settings.checks import whole_path
from muster.workers.errors import UsageError

Name = Annotated[str, typer.Argument(help="The data set: see `muster data list`.")]
Root = Annotated[str | None, typer.Option("--data-root", "--root", help="The folder of your copy.")]
TestList = Annotated[str, typer.Option(help="vehicleid's test list: small, medium or large.")]
AllowCounts = Annotated[
    bool, typer.Option("--allow-counts", help="Go on with a copy that is not as published.")
]


@guarded
def data_list(as_json: AsJson = False) -> None:
    """The data sets that muster reads: what each is, its licence, where it is obtained, its layouts."""
    from muster.orchestrator.ensemble.packs import described

    found = described()
    if as_json:
        show_document(found)
        return
    out.print("muster downloads nothing: obtain a copy, and give its folder as --data-root.\n")
    for one in found:
        _print_description(one)


@guarded
def data_check(
    name: Name,
    root: Root = None,
    test_list: TestList = "small",
    allow_counts: AllowCounts = False,
    as_json: AsJson = False,
) -> None:
    """Compares a copy with what was published: files, lists, images and counts. No image is decoded."""
    from muster.orchestrator.ensemble.packs import examine

    found = examine(name, root, test_list=test_list, allow_counts=allow_counts)
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


@guarded
def data_pack(
    name: Name,
    root: Root = None,
    storage: Storage = "store",
    preset: Annotated[str | None, typer.Option(help="Whose resize rules: paper, code or glyphs.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Picture side in px. (default: the preset's)")
    ] = None,
    test_list: TestList = "small",
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Go on without unreadable images.")
    ] = False,
    allow_counts: AllowCounts = False,
    as_json: AsJson = False,
) -> None:
    """Builds the packs that a launch with the same preset and size reads. What is packed already is left alone."""
    from muster.orchestrator.console.packbar import packing_bars
    from muster.orchestrator.ensemble.packs import PackRequest, pack

    request = PackRequest(
        name, root, whole_path(storage), preset, image_size, test_list, skip_bad_images, allow_counts
    )
    with packing_bars() as progress:
        found = pack(request, progress)
    for difference in found["differences"]:
        tell(f"muster: {difference}")
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
app.command("check")(data_check)
app.command("pack")(data_pack)
