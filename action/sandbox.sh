#!/usr/bin/env bash
# Third part of a step: on a runner of GitHub's, which is thrown away after the job, makes bubblewrap work.
# Ubuntu 24.04 forbids user namespaces to programs without an AppArmor profile; bubblewrap needs them.
set -euo pipefail

works() {
  command -v bwrap > /dev/null && bwrap --unshare-all --die-with-parent --ro-bind / / /bin/true 2> /dev/null
}

case "${DEVFLOW_INPUT_PREPARE_SANDBOX:-auto}" in
  auto) ;;
  never) exit 0 ;;
  *)
    echo "::error title=Devflow: config_invalid::The input prepare-sandbox is neither auto nor never."
    exit 1
    ;;
esac
# With another sandbox, bubblewrap is not asked for; another runner's machine is its owner's to change.
case "${DEVFLOW_INPUT_SANDBOX:-auto}" in
  auto | bwrap) ;;
  *) exit 0 ;;
esac
if [ "${RUNNER_ENVIRONMENT:-}" != github-hosted ] || works; then
  exit 0
fi
echo "::group::Making bubblewrap work on this runner"
prepare() {
  if ! command -v bwrap > /dev/null; then
    sudo -n apt-get install --quiet --yes --no-install-recommends bubblewrap ||
      { sudo -n apt-get update --quiet && sudo -n apt-get install --quiet --yes --no-install-recommends bubblewrap; }
  fi
  works || sudo -n sysctl --write kernel.apparmor_restrict_unprivileged_userns=0
}
prepare || true
echo "::endgroup::"
if ! works; then
  # no failure yet: there may be another sandbox, and if there is none, the run says so and does not start
  echo "::warning title=Devflow: sandbox::bubblewrap could not be made to work on this runner."
fi
