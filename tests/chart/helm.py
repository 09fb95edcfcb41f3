"""Helm's template, lint and package commands for tests/chart: a JSON request on standard input, a JSON
answer on standard output. An error of Helm is the exit status 1 and its text on standard error."""

import json
import sys

import helm_python as helm


def answer(request):
    chart, values = request["chart"], request["values"]
    # Arguments of --set.
    if isinstance(values, str):
        values = helm.parse_set_string(values)
    match request["command"]:
        case "template":
            with helm.Chart.load(chart) as loaded:
                return loaded.render(values, name="rulegen", namespace=request["namespace"])
        case "lint":
            return helm.lint(chart, values, strict=True)
        case "package":
            return helm.package(chart, destination=request["destination"])


try:
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
except helm.HelmError as error:
    sys.exit(str(error))
