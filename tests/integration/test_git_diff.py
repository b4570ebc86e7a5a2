"""The patch that a reviewer is shown: what the run changed, without the engine's own folder, and of bounded length."""

from pathlib import Path

from tests.integration.git_bench import make_bench


async def test_the_patch_shows_the_change_and_leaves_out_the_engines_folder(tmp_path: Path) -> None:
    bench = await make_bench(tmp_path)
    (bench.tree / "src/app.py").write_text("print(2)\n")
    engine_files = {f".devflow/runs/{bench.run_id}/spec.json": b"{}\n"}
    head = await bench.commit(bench.base, files=engine_files)

    patch = await bench.mirror.diff(bench.base, head, 10_000)

    assert "-print(1)\n+print(2)\n" in patch
    assert ".devflow" not in patch


async def test_a_long_patch_is_cut_after_the_list_of_all_files(tmp_path: Path) -> None:
    bench = await make_bench(tmp_path)
    for number in range(20):
        (bench.tree / f"file{number}.txt").write_text("line\n" * 100)
    head = await bench.commit(bench.base)

    patch = await bench.mirror.diff(bench.base, head, 3000)

    assert all(f"file{number}.txt" in patch for number in range(20))
    assert "(cut: " in patch
    assert len(patch) < 7000


async def test_the_tree_cannot_make_the_patch_run_a_program(tmp_path: Path) -> None:
    bench = await make_bench(tmp_path)
    (bench.tree / ".gitattributes").write_text("*.py diff=evil\n")
    (bench.tree / "src/app.py").write_text("print(2)\n")
    head = await bench.commit(bench.base)
    config = bench.mirror.path / "config"
    config.write_text(config.read_text() + f'[diff "evil"]\n\ttextconv = touch {bench.canary}; cat\n')

    await bench.mirror.diff(bench.base, head, 10_000)

    assert not bench.canary.exists()
