"""The scenario runner can fail: what it does with wrong expectations and with files that are no story."""
import glob
import os
import re
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
RUNNER = os.path.join(os.environ["SLUICE_BIN"], "scenario_tests")
STORY = os.path.join(HERE, "stories", "results.txt")


class Runner(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = os.path.join(self.directory.name, "story.txt")

    def write(self, text):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)

    def read(self):
        with open(self.path, encoding="utf-8") as file:
            return file.read()

    def play(self, *arguments):
        return subprocess.run([RUNNER, *arguments, self.path], capture_output=True, text=True, timeout=30)

    def story(self):
        with open(STORY, encoding="utf-8") as file:
            return file.read()

    def test_every_single_expected_line_matters(self):
        lines = self.story().splitlines(keepends=True)
        paths = {}
        for i, line in enumerate(lines):
            if not line.startswith("  "):
                continue
            path = os.path.join(self.directory.name, f"without_line_{i + 1}.txt")
            with open(path, "w", encoding="utf-8") as file:
                file.write("".join(lines[:i] + lines[i + 1:]))
            paths[path] = line
        self.assertGreater(len(paths), 20)
        played = subprocess.run([RUNNER, *paths], capture_output=True, text=True, timeout=60)
        self.assertEqual(played.returncode, 1, played)
        diffs = {diff.split("\n", 1)[0]: diff for diff in played.stdout.split("--- ")[1:]}
        self.assertEqual(set(diffs), set(paths))
        for path, line in paths.items():
            self.assertIn("\n+" + line, diffs[path])

    def test_a_changed_expectation_is_told_as_a_diff(self):
        wrong = self.story().replace("result=42", "result=41", 2)
        right = [line for line in self.story().splitlines() if "result=42" in line and line.startswith("  ")][0]
        self.write(wrong.replace("> result n1@a good completed result=41", "> result n1@a good completed result=42"))
        played = self.play()
        self.assertEqual(played.returncode, 1, played)
        self.assertIn("\n-" + right.replace("42", "41"), played.stdout)
        self.assertIn("\n+" + right, played.stdout)
        self.assertRegex(played.stdout, r"(?m)^@@ -\d+,\d+ \+\d+,\d+ @@$")

    def test_output_that_nobody_expected_is_a_difference(self):
        self.write("> submit x\n")
        played = self.play()
        self.assertEqual(played.returncode, 1, played)
        self.assertIn("+  p <- submitted x accepted, queued", played.stdout)

    def test_rewrite_restores_every_story_byte_for_byte(self):
        copies = {}
        for path in sorted(glob.glob(os.path.join(HERE, "stories", "*.txt"))):
            copy = os.path.join(self.directory.name, os.path.basename(path))
            with open(path, encoding="utf-8") as story, open(copy, "w", encoding="utf-8") as file:
                copies[copy] = story.read()
                file.write("".join(line for line in copies[copy].splitlines(keepends=True) if line[:2] != "  "))
        played = subprocess.run([RUNNER, "--rewrite", *copies], capture_output=True, text=True, timeout=60)
        self.assertEqual(played.returncode, 0, played)
        for copy, whole in copies.items():
            with open(copy, encoding="utf-8") as file:
                self.assertEqual(file.read(), whole, copy)

    def test_the_readme_tells_a_true_story(self):
        with open(os.path.join(HERE, "README.md"), encoding="utf-8") as file:
            told = [line[4:].rstrip() for line in file if line.startswith("    ")]
        told = told[:told.index("  event dead n1@a") + 1]
        with open(os.path.join(HERE, "stories", "readme.txt"), encoding="utf-8") as file:
            true = [line.rstrip() for line in file if not line.startswith("#")]
        # Steps of the README have a word of explanation behind them.
        self.assertEqual([re.split(r"(?<=\S)   +", line)[0] for line in told], true)

    def test_what_is_no_story_is_told_with_its_line(self):
        cases = [
            ("# a\n  output\n", 2, "right under a step"),
            ("submit x\n", 1, "a line is a step"),
            ("# a\n> fly x\n", 2, "no step 'fly'"),
            ("> submit\n", 1, "submit needs a job id"),
            ("> submit x prio=high\n", 1, "no option 'prio'"),
            ("> submit x queue=a queue=b\n", 1, "queue twice"),
            ("> submit x priority=urgent\n", 1, "'urgent'"),
            ('> submit x payload="hello\n', 1, "not closed"),
            ("> drain n1 now\n", 1, "does not take the word 'now'"),
            ("> node n1@a\n\n> result n1@a x completed\n", 3, "n1@a does not hold x"),
            ("> goodbye n1@a\n", 1, "no node n1@a"),
            ("t=+5\n", 1, "not a duration"),
            ("t=5s\n", 1, "t=+DURATION"),
            ("> raw p {\n", 1, "JSON"),
            ("> redis goes-back\n", 1, "nothing was"),
            ("> submit x\n> wait x\n# the end\n", 2, "nobody has answered the request of p in line 2"),
        ]
        paths = []
        for number, (text, _, _) in enumerate(cases):
            paths.append(os.path.join(self.directory.name, f"case_{number}.txt"))
            with open(paths[-1], "w", encoding="utf-8") as file:
                file.write(text)
        played = subprocess.run([RUNNER, *paths], capture_output=True, text=True, timeout=60)
        self.assertEqual(played.returncode, 2, played)
        told = played.stderr.splitlines()
        self.assertEqual(len(told), len(cases), played.stderr)
        for path, (text, line, sentence), said in zip(paths, cases, told):
            self.assertTrue(said.startswith(f"{path}:{line}: "), (text, said))
            self.assertIn(sentence, said, text)

    def test_a_missing_file_is_told(self):
        self.assertEqual(self.play().returncode, 2)


if __name__ == "__main__":
    unittest.main()
