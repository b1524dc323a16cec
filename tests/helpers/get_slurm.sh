#!/usr/bin/env bash
# Unpacks Slurm into the folder $1, from packages of Debian, without installing anything.
set -eu
mkdir -p "$1/packages"
cd "$1/packages"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "Slurm can't be tested here: that needs root, and packages of Debian." >&2
    exit 1
fi
apt-get update -qq
apt-get download -qq slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge libmunge2 libhwloc15 liblua5.1-0
for package in *.deb; do
    dpkg -x "$package" ../unpacked
done
