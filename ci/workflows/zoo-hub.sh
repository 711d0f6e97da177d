#!/usr/bin/env bash
# Gates an adapter repository on the Hub at one revision: downloads it, verifies the download, applies the policy.
# Runs in a workflow (hub.yml) and, without GitHub, as a Job that a webhook of the Hub starts:
#
#   hf jobs run --secrets HF_TOKEN python:3.12 bash -c "$(cat .github/zoo-hub.sh)"
#   then huggingface_hub.create_webhook(job_id=..., watched=[{"type": "model", "name": "ORG/NAME"}])
#
# Reads  ZOO_REPO       ORG/NAME; a webhook's job has it as WEBHOOK_REPO_ID
#        ZOO_REVISION   commit, tag or refs/pr/N; else what the webhook's payload is about; else main
#        ZOO_POLICY     the policy's file; else zoo-gate.yaml of this folder. Never one of the download: who
#                       proposes a change does not say what is demanded of it
#        ZOO_DEVICE     torch device; cpu
#        ZOO_BASE       base model; else the one that the adapter names
#        ZOO_VERSION    of alora-zoo to install where there is none
# Ends with zoo's exit code: 0 accepted, 1 no, 2 usage, 3 undecided, 4 a defect in zoo.
set -euo pipefail

repo="${ZOO_REPO:-${WEBHOOK_REPO_ID:-}}"
if [ -z "$repo" ]; then
  echo "zoo-hub: ZOO_REPO names no repository" >&2
  exit 2
fi
if ! command -v zoo > /dev/null; then
  python -m pip install --quiet "alora-zoo${ZOO_VERSION:+==$ZOO_VERSION}" || exit 3
fi

revision="${ZOO_REVISION:-}"
if [ -z "$revision" ] && [ -n "${WEBHOOK_PAYLOAD:-}" ]; then
  # a pull request is gated as such; any other event at the commit that it names
  revision="$(python -c '
import json, os
event = json.loads(os.environ["WEBHOOK_PAYLOAD"])
talk = event.get("discussion") or {}
refs = event.get("updatedRefs") or [{}]
if talk.get("isPullRequest"):
    print("refs/pr/%d" % talk["num"])
else:
    print(refs[0].get("newSha") or (event.get("repo") or {}).get("headSha") or "")
')"
fi
revision="${revision:-main}"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
echo "zoo-hub: $repo at $revision" >&2
folder="$work/${repo##*/}"
if ! hf download "$repo" --revision "$revision" --local-dir "$folder" > /dev/null; then
  echo "zoo-hub: it cannot be downloaded, so nothing was checked" >&2
  exit 3 # not 1: that is a verdict
fi

status=0
worst() { # a defect hides the verdict, and a no outranks what was not decided
  local code
  for code in 4 2 1 3; do
    if [ "$1" -eq "$code" ] || [ "$2" -eq "$code" ]; then
      echo "$code"
      return
    fi
  done
  echo 0
}

# files, signature, card and bill are as they were published; a proposal has none of these yet
case "$revision" in
  refs/pr/*) ;;
  *)
    zoo verify "$folder" --repo "$repo" || status=$(worst "$status" $?)
    ;;
esac

options=(--quiet --device "${ZOO_DEVICE:-cpu}")
if [ -n "${ZOO_POLICY:-}" ]; then options+=(--policy "$ZOO_POLICY"); fi
if [ -n "${ZOO_BASE:-}" ]; then options+=(--base "$ZOO_BASE"); fi
mkdir -p zoo-reports
for kind in json sarif xml md html; do options+=(-o "zoo-reports/report.$kind"); done
zoo gate "${options[@]}" -- "$folder" || status=$(worst "$status" $?)
exit "$status"
