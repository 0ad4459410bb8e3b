"""summary.json of a test run, from meson's JUnit file: test_summary.py JUNIT.xml STAMP EXIT_CODE SUITE VALIDATION_EXIT_CODE."""
import json
import sys
import xml.etree.ElementTree as tree

path, stamp, exit_code, suite, validation = sys.argv[1:]
cases = list(tree.parse(path).getroot().iter("testcase"))
count = lambda kind: sum(1 for case in cases if case.find(kind) is not None)
print(json.dumps({"timestamp_utc": stamp, "exit_code": int(exit_code), "tests": len(cases), "failures": count("failure"),
                  "errors": count("error"), "skipped": count("skipped"), "suite": suite,
                  "validation_exit_code": int(validation)}, indent=2, sort_keys=True))
