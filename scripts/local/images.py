"""The images: built on one parameterised base, tagged with a hash of all that goes into them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from frame.failure import Failure
from frame.progress import step
from frame.version import own_version
from scripts.local.engine import install_packages
from scripts.local.home import IMAGE_VARIABLES
from scripts.repository import ROOT
from scripts.shell import run

if TYPE_CHECKING:
    from collections.abc import Mapping

SUITE = "bookworm"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
LABEL = "org.harmattan.built-by=scripts"


@dataclass(frozen=True)
class Image:
    """One image: its Dockerfile and every path of the repository that its build reads.

    ``choices`` are build arguments that the environment may set, under the same names.
    """

    name: str
    dockerfile: str
    sources: tuple[str, ...]
    choices: tuple[str, ...] = ()

    def chosen(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the build arguments that ``environment`` sets; an empty one is none."""
        return {name: environment[name] for name in self.choices if environment.get(name)}


MELTANO = "meltano"  # which analysts' files run, and no job of the platform
IMAGES = (
    Image(
        "airflow",
        "airflow/Dockerfile",
        (
            "requirements/airflow.txt",
            "requirements/dbt.txt",
            "airflow/config",
            "airflow/harmattan",
            "airflow/plugins",
            "ingest",
            "transform",
            "dashboards",
            "frame",
            "airflow/delivery",
        ),
    ),
    Image(
        "backup",
        "backup/Dockerfile",
        ("requirements/backup.txt", "backup", "frame"),
        ("PG_MAJORS", "PG_APT", "PG_APT_KEY", "EXTENSIONS"),
    ),
    Image("ingest", "ingest/Dockerfile", ("requirements/ingest.txt", "ingest", "frame")),
    Image(
        "local",
        "nomad/images/local/Dockerfile",
        (
            "requirements/local.txt",
            "nomad/images/local",
            "standins/__init__.py",
            "standins/b2_server",
        ),
    ),
    Image(
        MELTANO,
        "containers/meltano/Dockerfile",
        ("requirements/meltano.txt", "containers/meltano", "frame"),
    ),
    Image("redis", "nomad/images/redis/Dockerfile", ("nomad/images/redis",)),
    Image(
        "superset", "dashboards/Dockerfile", ("requirements/superset.txt", "dashboards", "frame")
    ),
)


def content_hash(
    image: Image, base: str, root: Path = ROOT, environment: Mapping[str, str] = os.environ
) -> str:
    """Return 12 hexadecimal digits over all that goes into the image.

    That is the base's name, the Dockerfile, every source file and what was chosen.
    """
    digest = hashlib.sha256(base.encode())
    for name, value in image.chosen(environment).items():
        digest.update(f"\0{name}={value}".encode())
    paths = [root / image.dockerfile]
    for source in image.sources:
        start = root / source
        paths += sorted(start.rglob("*")) if start.is_dir() else [start]
    for path in paths:
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"\0{path.relative_to(root)}\0{path.stat().st_mode & 0o111}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def exists(tag: str) -> bool:
    """Tell whether the engine holds an image of that tag."""
    found = subprocess.run(
        ["docker", "image", "inspect", tag], capture_output=True, timeout=60, check=False
    )
    return found.returncode == 0


def ensure_base() -> str:
    """Return the base image's name: ``$BASE_IMAGE``, else a Debian made here by debootstrap."""
    if given := os.environ.get("BASE_IMAGE"):
        return given
    sources = apt_sources()
    recipe = hashlib.sha256(SUITE.encode() + sources.encode() + CA_BUNDLE.read_bytes())
    tag = f"harmattan/base:{recipe.hexdigest()[:12]}"
    if exists(tag):
        return tag
    if not shutil.which("debootstrap"):
        with step("install Debian's debootstrap"):
            install_packages("debootstrap")
    with step("make the base image with debootstrap"):
        mirror = re.search(r"^(?:URIs:|deb(?: \[.*\])?) *(\S+)", sources, re.MULTILINE)
        if mirror is None:
            raise Failure(
                "no Debian mirror stands in /etc/apt",
                "Name a base image: BASE_IMAGE=debian:bookworm-slim make up",
            )
        run(
            "debootstrap",
            ["sh", "-euc", _BASE_RECIPE, "base", SUITE, mirror[1], CA_BUNDLE, tag, LABEL],
            environment={"APT_SOURCES": sources},
            timeout=900,
        )
    return tag


# debootstrap into a scratch directory, the host's own sources and certificates in it, and no
# service started by a package that a Dockerfile installs.
_BASE_RECIPE = """
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
debootstrap --variant=minbase "$1" "$work/root" "$2"
rm -rf "$work/root/var/cache/apt/archives/"*.deb "$work/root/var/lib/apt/lists/"*
rm -f "$work/root/etc/apt/sources.list"
printf '%s' "$APT_SOURCES" > "$work/root/etc/apt/sources.list.d/host.sources"
printf '#!/bin/sh\\nexit 101\\n' > "$work/root/usr/sbin/policy-rc.d"
chmod 755 "$work/root/usr/sbin/policy-rc.d"
install -D -m 644 "$3" "$work/root/etc/ssl/certs/ca-certificates.crt"
install -D -m 644 "$3" "$work/root/usr/local/share/ca-certificates/host.crt"
tar -C "$work/root" -c . | docker import --change "LABEL $5" - "$4"
"""


def apt_sources(folder: Path = Path("/etc/apt")) -> str:
    """Return this host's own Debian sources in deb822 form, other vendors' left out."""
    found = folder / "sources.list.d/debian.sources"
    if found.exists():
        return found.read_text()
    listed = folder / "sources.list"
    stanzas = []
    line = re.compile(r"^deb +(?:\[.*?\] +)?(\S+) +(\S+) +(.+)$", re.MULTILINE)
    for uri, suite, components in line.findall(listed.read_text() if listed.exists() else ""):
        stanzas.append(
            f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {components}\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
    return "\n".join(stanzas)


def ensure_images() -> dict[str, str]:
    """Build what is not there yet and return ``{name: tag}``; the tags go to ``images.hcl`` too."""
    base = ensure_base()
    tags = {}
    for image in IMAGES:
        tag = f"harmattan/{image.name}:{content_hash(image, base)}"
        if not exists(tag):
            with step(f"build the image {tag}"):
                run(
                    f"image-{image.name}",
                    ["docker", "build", "--network=host", f"--label={LABEL}",
                     f"--build-arg=BASE_IMAGE={base}", f"--build-arg=VERSION={own_version()}",
                     *(f"--build-arg={name}={value}"
                       for name, value in image.chosen(os.environ).items()),
                     f"--tag={tag}", f"--file={ROOT / image.dockerfile}", ROOT],
                    environment={"DOCKER_BUILDKIT": "0"},
                    timeout=1500,
                )  # fmt: skip
        tags[image.name] = tag
    IMAGE_VARIABLES.parent.mkdir(parents=True, exist_ok=True)
    IMAGE_VARIABLES.write_text(
        "".join(
            f'container_images = {{ {name} = "{tag}" }}\n'
            if name == MELTANO
            else f'{name}_image = "{tag}"\n'
            for name, tag in sorted(tags.items())
        )
    )
    return tags
