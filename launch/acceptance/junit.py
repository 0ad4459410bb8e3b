"""What was run, as a JUnit file: a suite a stage, a case a part."""
import xml.etree.ElementTree as tree


def junit(results):
    root = tree.Element("testsuites")
    for stage, parts in results["stages"].items():
        suite = tree.SubElement(root, "testsuite", name=stage, tests=str(len(parts)))
        for name, part in parts.items():
            case = tree.SubElement(suite, "testcase", name=name, classname=stage, time=str(part["seconds"]))
            if part["state"] == "skipped":
                tree.SubElement(case, "skipped")
            elif part["state"] != "ok":
                told = "its time was over" if part["state"] == "time" else part.get("why") or f"code {part.get('code')}"
                tree.SubElement(case, "failure", message=told).text = "\n".join(part.get("tail", []))
        for kind, tag in (("failures", "failure"), ("skipped", "skipped")):
            suite.set(kind, str(sum(case.find(tag) is not None for case in suite)))
    tree.indent(root)
    return tree.tostring(root, encoding="unicode") + "\n"
