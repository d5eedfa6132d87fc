"""The files of deploy/ agree with the server, with each other and with the page that explains them."""

import configparser
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from guardrail.cli.main import app
from guardrail.models.files.reference import BUILTIN_MODELS
from guardrail.policy.load import load_policy
from guardrail.server.api_keys import ApiKeys
from guardrail.server.server_settings import ServerSettings, read_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
# Names of the environment that are no settings of the server.
OTHER = {"GUARDRAIL_CACHE_DIR"}
# What the server takes to end beyond the time of a request.
ENDING = 5


def text(name):
    return (DEPLOY / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(text("compose.yaml"))


@pytest.fixture(scope="module")
def guarded(compose):
    return compose["services"]["guardrail"]


@pytest.fixture(scope="module")
def unit():
    class Several(dict):
        """Keeps all values of a key."""

        def __setitem__(self, key, value):
            if isinstance(value, list) and isinstance(self.get(key), list):
                self[key].extend(value)
            else:
                super().__setitem__(key, value)

    parser = configparser.RawConfigParser(strict=False, dict_type=Several, comment_prefixes="#")
    parser.optionxform = str
    parser.read_string(text("guardrail.service"))
    # A key that stands several times has its values below each other.
    return {name: {k: v.split("\n") for k, v in parser[name].items()} for name in parser.sections()}


def instructions():
    """The Dockerfile's instructions, each on a line."""
    lines = [line for line in text("Dockerfile").splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [re.split(r"\s+", line, maxsplit=1) for line in joined.splitlines()]


def of(kind):
    return [words for name, words in instructions() if name == kind]


def environment():
    found = {}
    for words in of("ENV"):
        found |= dict(re.findall(r"(\w+)=(\S+)", words))
    return found


def settings_in(names):
    return {name for name in names if name.startswith("GUARDRAIL_")} - OTHER


def check_names(names):
    for name in settings_in(names):
        assert name.removeprefix("GUARDRAIL_").lower() in ServerSettings.model_fields, name


def test_every_setting_exists(guarded, unit):
    check_names(environment())
    check_names(guarded["environment"])
    check_names(re.findall(r"GUARDRAIL_\w+", "\n".join([PAGE, text("guardrail.service")])))


def test_the_models_cache_is_where_the_library_looks():
    sources = (ROOT / "guardrail" / "models" / "files" / "resolve.py").read_text(encoding="utf-8")
    assert all(f'"{name}"' in sources for name in OTHER)
    for name in ("Dockerfile", "guardrail.service"):
        assert "GUARDRAIL_CACHE_DIR=" in text(name)


def test_the_settings_of_each_file_are_ones_that_the_server_starts_with(guarded, tmp_path, monkeypatch):
    keys = tmp_path / "keys.txt"
    for values in ({**environment(), **guarded["environment"]}, environment()):
        with monkeypatch.context() as patch:
            for name in settings_in(values):
                patch.setenv(name, values[name])
            patch.setenv("GUARDRAIL_API_KEY_FILE", str(keys))
            settings = read_settings({})
        assert settings.port == 8000
        assert not settings.is_local
        load_policy(settings.policy)


def test_without_keys_a_container_does_not_start(monkeypatch):
    from guardrail.errors import OptionError

    for name in settings_in(environment()):
        monkeypatch.setenv(name, environment()[name])
    with pytest.raises(OptionError, match="api-key-file"):
        read_settings({})


def test_the_image_is_run_by_nobody_in_particular_and_pins_what_it_installs():
    assert of("USER") == ["10001:10001"]
    users = [name for name, _ in instructions()]
    assert users.index("USER") < users.index("CMD")
    installs = [words for words in of("RUN") if "pip install" in words]
    assert len(installs) == 2
    assert all("constraints.txt" in words for words in installs)
    # Pulled, where it is asked for, by the user that runs it.
    (pull,) = [words for words in of("RUN") if "models pull" in words]
    assert users.index("USER") < next(i for i, one in enumerate(instructions()) if one[1] == pull)
    assert pull.startswith('if [ -n "$MODEL" ]')
    assert 'MODEL=""' in of("ARG")
    assert any(f"MODEL={name}" in text("Dockerfile") for name in BUILTIN_MODELS)


def test_what_the_image_copies_is_there_and_is_all_that_the_package_needs():
    copied = {name for words in of("COPY") if not words.startswith("--from") for name in words.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", "constraints.txt"}
    needed |= {project["project"]["readme"], *project["project"]["license-files"]}
    assert copied == needed
    (extras,) = [words for words in of("ARG") if words.startswith("EXTRAS=")]
    chosen = {"serve", *filter(None, extras.partition("=")[2].strip('"').split(","))}
    assert chosen == {"serve", "telemetry"}
    assert chosen <= project["project"]["optional-dependencies"].keys()
    assert any(".[serve${EXTRAS}]" in words for words in of("RUN"))


def test_commands_exist():
    commands = typer.main.get_command(app).commands
    assert of("ENTRYPOINT") == ['["guardrail"]']
    assert of("CMD") == ['["serve"]']
    assert "serve" in commands
    assert "pull" in commands["models"].commands


def test_ports_agree(compose, guarded, unit):
    port = environment()["GUARDRAIL_PORT"]
    assert of("EXPOSE") == [port] == [str(ServerSettings.model_fields["port"].default)]
    assert guarded["ports"] == [f"127.0.0.1:{port}:{port}"]
    (scraped,) = yaml.safe_load(text("prometheus.yml"))["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"guardrail:{port}"]}]
    assert scraped["metrics_path"] == "/metrics"
    assert f"127.0.0.1:{port}" in PAGE
    assert f"http://127.0.0.1:{compose['services']['prometheus']['ports'][0].split(':')[1]}" in PAGE


def test_names_that_ask_are_ones_that_the_server_answers_to(compose, guarded):
    names = guarded["environment"]["GUARDRAIL_ALLOWED_HOSTS"].split(",")
    # Prometheus, whoever is on this machine, and the health check.
    assert set(names) >= {"guardrail", "localhost", "127.0.0.1"}
    assert "guardrail" in compose["services"]
    (health,) = of("HEALTHCHECK")
    assert "http://127.0.0.1:" in health
    assert "/readyz" in health


def test_keys_are_files_that_only_their_reader_has(compose, guarded):
    assert guarded["environment"]["GUARDRAIL_API_KEY_FILE"] == "/run/secrets/api_keys.yaml"
    assert guarded["secrets"] == [{"source": "api_keys", "target": "api_keys.yaml"}]
    (scraped,) = yaml.safe_load(text("prometheus.yml"))["scrape_configs"]
    assert scraped["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
    assert compose["services"]["prometheus"]["secrets"] == ["metrics_key"]
    for secret in compose["secrets"].values():
        assert Path(secret["file"]).name in PAGE
    assert "sudo chown 10001 keys.yaml" in PAGE


def test_the_keys_that_the_page_makes_are_an_apps_and_one_that_reads_metrics(compose, tmp_path):
    (block,) = (one for one in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) if "docker compose" in one)
    lines = [line for line in block.splitlines() if not re.match("cd |sudo |docker ", line)]
    made = subprocess.run(
        ["bash", "-ec", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    app, metrics = made.stdout.strip(), (tmp_path / "metrics-key.txt").read_text()
    keys = ApiKeys.from_file(tmp_path / Path(compose["secrets"]["api_keys"]["file"]).name)
    roles = [keys.caller(f"Bearer {key}".encode()).role for key in (app, metrics)]
    assert roles == ["client", "metrics"]
    assert keys.caller(b"Bearer " + b"0" * 64) is None


def test_what_is_asked_for_is_answered_before_it_is_killed(guarded, unit):
    least = ServerSettings.model_fields["request_timeout"].default + ENDING
    assert int(guarded["stop_grace_period"].removesuffix("s")) > least
    assert int(unit["Service"]["TimeoutStopSec"][0]) > least
    assert unit["Service"]["KillSignal"] == of("STOPSIGNAL") == ["SIGTERM"]


def test_the_container_cannot_change_itself(compose):
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    mounted = {one.split(":")[1] for one in compose["services"]["guardrail"]["volumes"]}
    assert mounted == set(re.findall(r'"([^"]+)"', of("VOLUME")[0]))


def test_the_unit_is_confined_and_its_keys_are_roots(unit):
    service = unit["Service"]
    assert service["ExecStart"] == ["/opt/guardrail/bin/guardrail serve"]
    for name, value in (
        ("DynamicUser", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("StateDirectory", "guardrail"),
        ("CacheDirectory", "guardrail"),
    ):
        assert service[name] == [value], name
    (credential,) = service["LoadCredential"]
    name, _, path = credential.partition(":")
    assert f"GUARDRAIL_API_KEY_FILE=%d/{name}" in service["Environment"]
    assert path == "/etc/guardrail/keys.txt"
    assert path in PAGE
    assert service["EnvironmentFile"] == ["-/etc/guardrail/serve.env"]
