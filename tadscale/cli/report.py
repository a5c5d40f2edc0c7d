"""`tadscale report`: detectors side by side as one HTML page."""

import argparse
from pathlib import Path

from rich.console import Console

from tadscale.cli.common import EXIT_OK, Commands, write_page
from tadscale.cli.protocol import add_protocol_to, chosen_protocol


def add_to(commands: Commands) -> None:
    """Add this command to the parser."""
    report = commands.add_parser(
        "report", help="why detectors are as good as they are: errors, sizes, recall, calibration, as a page"
    )
    report.add_argument(
        "sources",
        metavar="RUN ... | DETECTIONS.json ... GROUND_TRUTH.json",
        nargs="+",
        help="folders of finished runs, STORAGE/NAME; or files, the ground truth last",
    )
    report.add_argument(
        "--html",
        metavar="FILE",
        type=Path,
        default=Path("report.html"),
        help="the page to write (default: report.html)",
    )
    add_protocol_to(report)
    report.set_defaults(command=_report)


def _report(options: argparse.Namespace, console: Console) -> int:
    from tadscale.report.diagnosis import diagnose
    from tadscale.report.diagnosis_html import diagnosis_html
    from tadscale.report.inputs import are_runs, read_files, read_runs

    chosen = chosen_protocol(options)
    if are_runs(options.sources):
        inputs, scored_at = read_runs(options.sources, subset=options.subset, leave_out=options.leave_out)
        tiou = chosen.tiou if options.protocol or options.tiou else scored_at
    else:
        *detections, last = options.sources
        inputs = read_files(detections, last, subset=chosen.subset, leave_out=options.leave_out)
        tiou = chosen.tiou
    diagnoses = [
        diagnose(
            name,
            table,
            inputs.ground_truth,
            tiou=tiou,
            duration_s=inputs.duration_s,
            buckets=chosen.buckets,
            respelt=inputs.respelt[name],
        )
        for name, table in inputs.detections.items()
    ]
    write_page(options.html, diagnosis_html(diagnoses, f"Report of {', '.join(inputs.detections)}", inputs.source))
    console.print(inputs.source, markup=False, highlight=False)
    for one in diagnoses:
        console.print(f"{one.name}: average mAP {100 * one.result.average:.2f}", markup=False, highlight=False)
        for remark in one.remarks:
            console.print(f"  {remark}", markup=False, highlight=False)
    console.print(f"written: {options.html}", markup=False, highlight=False)
    return EXIT_OK
