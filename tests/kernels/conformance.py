#!/usr/bin/env python3
"""Probes of the conformance cases in a kernel (see ci/kernels).

conformance.py record CONFORMANCE MODE OUT   write OUT/expected-MODE.json: what the kernel of this machine
                                             does with the packets
conformance.py check  CONFORMANCE MODE OUT   compare with that file

CONFORMANCE is a folder with tools/packetlab.py and conformance/packets. RULEGEN is the program. In nftables
mode, the kernel is also compared with the case itself: what kube-proxy's nftables rules did. Endpoints are
chosen at random, so a few packets need not reach all of them; they must reach no others.
"""

import json
import os
import sys

sys.dont_write_bytecode = True
action, conformance, mode, out = sys.argv[1:]
sys.path.insert(0, os.path.join(conformance, "tools"))
from packetlab import PacketLab  # noqa: E402

# Without and with source ranges and policy Local without endpoints.
CASES = ("000-default", "007-no-local")
PACKETS = {"record": 40, "check": 4}[action]


def run(case):
    folder = os.path.join(conformance, "conformance/packets", case)
    probes = json.load(open(os.path.join(folder, "probes.json")))
    sent = [{key: probe[key] for key in ("id", "from", "src", "proto", "dst", "dport")} for probe in probes]
    load = (f"{os.environ['RULEGEN']} -f {folder}/cluster.yaml --config {folder}/config.yaml "
            f"--proxy-mode {mode}")
    with PacketLab() as lab:
        lab.load(load)
        results = lab.run(sent, repeat=PACKETS)
    return [(probe, result) for probe, result in zip(probes, results)]


def differs(got, wanted, masquerade):
    if got["verdict"] != wanted["verdict"]:
        return f"{got['verdict']} instead of {wanted['verdict']}"
    if not set(got["endpoints"]) <= set(wanted["endpoints"]):
        return f"to {got['endpoints']} instead of {wanted['endpoints']}"
    for endpoint, value in got["masq_by_endpoint"].items():
        if value != masquerade.get(endpoint, value):
            return f"{endpoint}: masquerade {value}"
    return None


def main():
    results = {case: run(case) for case in CASES}
    path = os.path.join(out, f"expected-{mode}.json")
    if action == "record":
        recorded = {case: {probe["id"]: result for probe, result in all} for case, all in results.items()}
        json.dump(recorded, open(path, "w"))
        return 0
    recorded = json.load(open(path))
    passed = failed = 0
    for case, all in results.items():
        for probe, got in all:
            elsewhere = recorded[case][probe["id"]]
            why = differs(got, elsewhere, elsewhere["masq_by_endpoint"])
            expected = probe["expect"]
            if why is None and mode == "nftables":
                expected = {"endpoints": [], "masquerade": {}, **expected}
                why = differs(got, expected, expected["masquerade"])
            passed, failed = passed + (why is None), failed + (why is not None)
            if why:
                print(f"{case} {probe['id']} from {probe['from']} {probe['src']} to {probe['proto']} "
                      f"{probe['dst']}:{probe['dport']} ({probe['kind']} {probe['service']}): {why}")
    print(f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {failed} failed;")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
