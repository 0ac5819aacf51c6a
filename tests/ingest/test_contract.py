"""Pipeline files: what is accepted, and that every fault is named by file, line and key."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import contract
from ingest.errors import ContractError

SOUND = """\
source: hr
schema: raw_hr
schedule: "0 2 * * *"
owner: people-analytics
tables:
  - name: public.employees
  - name: public."Leave Days"
    load: full
"""


def read(tmp_path: Path, text: str | bytes) -> contract.Pipeline:
    file = tmp_path / "hr.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return contract.read(file)


# As the engine's first specification wrote it, with all of its keys.
SPECIFIED = """\
source: hr                     # Airflow connection id, resolved at run time
warehouse: warehouse           # default
schema: raw_hr                 # published schema
schedule: "0 2 * * *"
owner: people-analytics
alert: alerts_webhook          # connection id of the webhook
tables:
  - name: public.employees     # or a pattern, public.*; quoted names work
    load: incremental          # full | incremental | append
    key: [id]
    cursor: updated_at
    lookback: 2h               # late commits
    deletes: detect            # ignore | detect (remove) | mark
    on_schema_change: refresh  # refresh | evolve | fail
    columns: {exclude: [photo], hash: [national_id]}
    checks:
      rows: {min: 1, max_drop: 20%}
      nulls: {email: 5%}
      unique: [[email]]
      accepted: {status: [active, left]}
      freshness: {column: updated_at, max_age: 48h}
      sql: {no_future_hires: "select count(*) = 0 from {table} where hired_on > current_date"}
"""
PAGE = Path(__file__).parents[2] / "airflow/analysts-template/docs/pipeline-files.md"


@pytest.mark.parametrize(
    "text",
    [SPECIFIED, PAGE.read_text().partition("```yaml\n")[2].partition("```")[0]],
    ids=["specified", "page"],
)
def test_the_files_that_are_shown_to_people_are_sound(tmp_path: Path, text: str) -> None:
    pipeline = read(tmp_path, text)
    (rule,) = [each for each in pipeline.tables if each.load == "incremental"]
    assert (rule.deletes, rule.columns.hash) == ("detect", ("national_id",))
    assert list(rule.checks.sql) == ["no_future_hires"]
    assert rule.checks.rows.max_drop == 0.2
    schema = contract.json_schema()
    assert jsonschema.Draft202012Validator(schema).is_valid(yaml.safe_load(text))


def test_files_that_go_live_together_publish_into_schemas_of_their_own(tmp_path: Path) -> None:
    texts = {
        "hr": SOUND,
        "again": SOUND,
        "broken": "source: hr\n",
        "elsewhere": f"warehouse: other\n{SOUND}",
        "records": SOUND.replace("raw_hr", "raw_records"),
    }
    files = [tmp_path / f"{name}.yaml" for name in texts]
    for file, text in zip(files, texts.values(), strict=True):
        file.write_text(text)
    found = dict(contract.read_all([*files, files[0]]))
    faults = {file.stem: each for file, each in found.items() if isinstance(each, ContractError)}
    assert sorted(faults) == ["again", "broken"]
    assert faults["again"].message == (
        f"{tmp_path}/again.yaml:2: schema: expected a schema of the pipeline's own, found raw_hr,"
        f" as in {tmp_path}/hr.yaml"
    )


def test_a_sound_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    pipeline = read(tmp_path, SOUND)
    assert pipeline.warehouse == "warehouse"
    assert (pipeline.published_schema, pipeline.staging_schema) == ("raw_hr", "raw_hr_staging")
    assert [(rule.table.table, rule.load) for rule in pipeline.tables] == [
        ("employees", "full"),
        ("Leave Days", "full"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("source: hr", "source: 'h r'", "1: source: expected text like"),
        ("source: hr\n", "", "1: source: expected this key, found none"),
        ("raw_hr", "Raw_HR", "2: schema: expected text like"),
        ("raw_hr", "ops", "2: schema: expected a schema of the pipeline's own"),
        ("raw_hr", "extensions", "2: schema: expected a schema of the pipeline's own"),
        ("raw_hr", "pg_raw", "2: schema: expected a schema of the pipeline's own"),
        ("raw_hr", "raw_staging", "2: schema: expected a schema of the pipeline's own"),
        ("raw_hr", "a" * 56, "2: schema: expected a name of at most 55 bytes, found 56"),
        ("raw_hr", "no", "2: schema: expected text, found false: put it in quotes"),
        ('"0 2 * * *"', "nightly", "3: schedule: expected five cron fields or one of @hourly"),
        ('"0 2 * * *"', '"0 25 * * *"', "3: schedule: expected 0 to 23 as the hour, found '25'"),
        ("people-analytics", "7", "4: owner: expected text, found 7: put it in quotes"),
        ("people-analytics", '"a\\nb"', "4: owner: expected text like"),
        ("owner:", "alerts: x\nowner:", "4: alerts: expected one of the keys source, warehouse"),
        ("owner:", "source: x\nowner:", "4: source: expected once, found twice"),
        ("owner:", "<<: x\nowner:", "4: <<: expected one of the keys"),
        ("owner:", "[a]: x\nowner:", "4: the file: expected a plain word as the key"),
        ("owner:", "owner: [\n", "6: the file: expected YAML, found: "),
        ("owner:", "owner: &a\n  - *a\n#", "4: owner[0]: expected no alias"),
        ("owner:", "? 2026-13-45\n:", "4: 2026-13-45: expected one of the keys"),
        ("people-analytics", "2026-13-45", "4: owner: expected a value, found: month must be"),
        (
            "load: full",
            "except: [public.x]",
            "8: tables[1].except: expected it only with a pattern",
        ),
        ("load: full", "except: [x]", "8: tables[1].except[0]: expected schema.table"),
        ("load: full", "load: append", "8: tables[1].load: expected a cursor for load: append"),
        ("load: full", "keys: [id]", "8: tables[1].keys: expected one of the keys name, except,"),
        ("public.employees", "employees", "6: tables[0].name: expected schema.table"),
        ("public.employees", "p." + "x" * 64, "6: tables[0].name: expected a name of at most 63"),
        ("name: public.employees", "public.employees", "6: tables[0]: expected keys such as name"),
        ("name: public.employees", "nam: x", "6: tables[0].name: expected this key, found none"),
        ("public.employees", 'PUBLIC."Leave Days"', "7: tables[1].name: expected each name once"),
        (SOUND[SOUND.index("  - name") :], "  []", "5: tables: expected at least one item"),
        (SOUND[SOUND.index("  - name") :], "  all", "5: tables: expected a list, found"),
        (SOUND, "", "1: the file: expected keys such as source and tables, found nothing"),
        (SOUND, "- 1", "1: the file: expected keys such as source and tables, found a list"),
        (SOUND, "[" * 5000, "1: the file: expected a few levels of keys, found far deeper"),
        (SOUND, "#" * 300_000, "1: the file: expected at most 262144 bytes"),
        (SOUND, "a: 1\n---\nb: 2", "2: the file: expected YAML, found: but found another doc"),
        ("owner:", "owner: !!set {a}\n#", "4: owner: expected no tag, found tag:yaml.org,2002:set"),
        ("owner:", "owner: !!python/name:os.system\n#", "4: the file: expected YAML, found: could"),
        ("people-analytics", "\x07", "4: the file: expected text, found character 0x7"),
    ],
)
def test_a_fault_is_named_by_file_line_and_key(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    with pytest.raises(ContractError) as failure:
        read(tmp_path, SOUND.replace(old, new, 1))
    assert f"{tmp_path}/hr.yaml:{expected}" in failure.value.message


def test_every_fault_of_a_file_is_told_at_once_in_its_order(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as failure:
        read(tmp_path, SOUND.replace("hr\n", "''\n", 1).replace("load: full", "keys: [id]"))
    assert [(fault.line, fault.key) for fault in failure.value.problems] == [
        (1, "source"),
        (8, "tables[1].keys"),
    ]


@pytest.mark.parametrize("text", [b"a: \xff", "\ufeffa: \x00".encode()])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ContractError, match=r"hr\.yaml:1: the file: expected"):
        read(tmp_path, text)


@pytest.mark.parametrize("name", ["hr.yml", "h r.yaml", ".yaml", "Łaź.yaml"])
def test_a_file_name_that_makes_no_dag_id_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(SOUND)
    with pytest.raises(ContractError, match="the file's name: expected letters, digits"):
        contract.read(tmp_path / name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.one_of(st.text(), st.text(alphabet="ab:-[]{}&*!|>?#%@\"'\n \t0", max_size=40)))
def test_any_text_is_either_a_pipeline_or_a_contract_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ContractError):
        read(tmp_path, text.encode("utf-8", "surrogatepass"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=st.dictionaries(st.sampled_from([*yaml.safe_load(SOUND), "x"]), VALUES, min_size=1))
def test_any_value_of_a_key_is_accepted_or_named_on_a_line_of_the_file(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    text = yaml.safe_dump(yaml.safe_load(SOUND) | changes)
    try:
        read(tmp_path, text)
    except ContractError as error:
        assert all(1 <= fault.line <= text.count("\n") + 1 for fault in error.problems)


@pytest.mark.parametrize(
    ("text", "tables", "hours"),
    [
        ("together", "together", 6),
        ("each", "each", 6),
        ("{wait: 2h, keep: 1d}", "each", 2),
        ("{tables: together, wait: 1h}", "together", 1),
        ("later", None, 0),
        ("{wait: soon}", None, 0),
    ],
)
def test_publish_is_a_word_or_says_more(
    tmp_path: Path, text: str, tables: str | None, hours: int
) -> None:
    file = tmp_path / "hr.yaml"
    file.write_text(f"publish: {text}\n{SOUND}")
    sound = jsonschema.Draft202012Validator(contract.json_schema()).is_valid(
        yaml.safe_load(file.read_text())
    )
    assert sound is (tables is not None)
    if tables is None:
        with pytest.raises(ContractError, match=r"hr\.yaml:1: publish\.(tables|wait): expected"):
            contract.read(file)
        return
    found = contract.read(file).publish
    assert (found.tables, found.wait.total_seconds()) == (tables, hours * 3600)


def test_the_json_schema_agrees_on_sound_and_broken_files() -> None:
    schema = contract.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    sound = yaml.safe_load(SOUND)
    assert validator.is_valid(sound)
    assert not validator.is_valid(sound | {"alerts": "x"})
    assert not validator.is_valid({**sound, "tables": []})
    assert "schema" in schema["required"]
    assert "published_schema" not in schema["properties"]
