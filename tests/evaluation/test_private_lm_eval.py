"""The private parts of lm-eval that drop_ray/evaluation/lm_eval_private.py stands on."""

from functools import partial

from canaries import canary, check_parameters

lm_eval = partial(canary, "lm_eval")
TASK = "task: counted\ntag: numbers\ndataset_path: json\noutput_type: multiple_choice\n"


def test_the_index_of_a_folder(tmp_path):
    (tmp_path / "counted.yaml").write_text(TASK)
    with lm_eval("lm_eval.tasks._index:TaskIndex.build") as build:
        check_parameters(build, "paths")
        entries = build([tmp_path])
        assert entries.keys() == {"counted", "numbers"}
        assert entries["counted"].yaml_path == tmp_path / "counted.yaml"
        assert entries["counted"].cfg["dataset_path"] == "json"
        assert (entries["numbers"].yaml_path, entries["numbers"].cfg) == (None, None)
        assert entries["numbers"].tags == {"counted"}


def test_the_kind_of_an_entry(tmp_path):
    (tmp_path / "counted.yaml").write_text(TASK)
    with lm_eval("lm_eval.tasks._index:Kind.TAG") as tag, lm_eval("lm_eval.tasks._index:TaskIndex") as index:
        kinds = {name: entry.kind for name, entry in index.build([tmp_path]).items()}
        assert kinds["numbers"] is tag
        assert kinds["counted"] is not tag


def test_an_entry_without_a_path_is_built_from_its_mapping(tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"question": "two?", "label": 1}\n')
    (tmp_path / "counted.yaml").write_text(TASK)
    config = {
        "task": "counted",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": lambda row: f"Q: {row['question']}",
        "doc_to_choice": ["one", "two"],
        "doc_to_target": "label",
        "output_type": "multiple_choice",
    }
    with lm_eval("lm_eval.tasks:TaskManager.task_index"), lm_eval("lm_eval.tasks:TaskManager") as task_manager:
        manager = task_manager(include_path=str(tmp_path), include_defaults=False)
        entry = manager.task_index["counted"]
        entry.yaml_path, entry.cfg = None, config
        [task] = manager.load(["counted"])["tasks"].values()
        assert task.doc_to_text(next(iter(task.test_docs()))) == "Q: two?"


def test_a_function_beside_the_file_goes_before_an_importable_one(tmp_path):
    (tmp_path / "json.py").write_text("made = []\ndef dumps():\n    return 'beside'\n")
    with lm_eval("lm_eval.tasks._yaml_loader:_import_func_in_yml") as import_function:
        check_parameters(import_function, "qual", "base_dir")
        beside = import_function("json.dumps", tmp_path)
        assert beside() == "beside"
        assert import_function("json.dumps", tmp_path) is beside
        (tmp_path / "elsewhere").mkdir()
        assert import_function("json.dumps", tmp_path / "elsewhere")([1]) == "[1]"
