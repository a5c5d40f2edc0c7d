"""What a grid's jobs name, by content."""

from tadscale.network import save_network
from tadscale.runtime.grid.contents import Contents
from tadscale.runtime.grid.spec import load_grid
from tadscale.runtime.stage.modes import network_of
from tests.runtime.grid.conftest import cell_of


def test_a_teacher_beside_the_grid_is_looked_at_and_one_in_it_is_not(grid_file, trained, tmp_path):
    """Also where the other's folder begins with the name of the grid's."""
    job = cell_of(load_grid(grid_file())[1], "wide.laf.seed0")
    folder = str(tmp_path / "runs/agnostic")
    spec = network_of(job, "teacher", ("a",))
    beside, inside = f"{folder}-before/teacher/weights", f"{folder}/wide.laf.seed0/teacher/weights"
    written = save_network(beside, spec, spec.build().state_dict())
    for url, expected in ((beside, written.weights_sha256), (inside, None)):
        named = job.model_copy(update={"teacher": job.teacher.model_copy(update={"url": url})})
        assert Contents(folder).of(named).get(url) == expected
