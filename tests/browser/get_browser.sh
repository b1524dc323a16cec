#!/usr/bin/env bash
# Gets the browser in which pages are tested, where that can be done without asking anybody.
set -u
for browser in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$browser" >/dev/null && command -v chromedriver >/dev/null; then
        exit 0
    fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing chromium and chromium-driver, in which pages are tested."
    apt-get update -qq >/dev/null 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver \
        >/dev/null 2>&1 && exit 0
fi
echo "PAGES WILL NOT BE TESTED: there is no Chromium, and it can't be installed without root and apt-get." >&2
echo "Install chromium and chromedriver to test them." >&2
