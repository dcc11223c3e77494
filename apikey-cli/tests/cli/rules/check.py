"""Applies rules for leak scanners: check.py FOLDER keys KEYS, or check.py FOLDER tree TREE.

FOLDER has a file for each format. KEYS has a key in each line; what a rule misses is printed. TREE is a folder of
source; each key in it whose checksum is right is printed.
"""
import math
import os
import re
import sys
import types
from collections import Counter
from pathlib import Path

# A text after a newline that is escaped, or after a quotation mark that is, is a key's too.
PLACES = ['%s', '"first\\n%s"', 'q=%%22%s%%22&x=1', 'KEY=%s;', 'x%s', '__%s.', "b'%s'\r\n"]


def base_class():
    """Stands in for detect_secrets.plugins.base, which does the same with expressions that capture nothing."""

    class RegexBasedDetector:
        def analyze_string(self, string):
            for regex in self.denylist:
                yield from regex.findall(string)

    for name in ['detect_secrets', 'detect_secrets.plugins', 'detect_secrets.plugins.base']:
        sys.modules[name] = types.ModuleType(name)
    sys.modules['detect_secrets.plugins.base'].RegexBasedDetector = RegexBasedDetector


def plugin(folder):
    base_class()
    scope = {}
    exec((folder / 'detect-secrets').read_text(), scope)
    return scope['ApikeyDetector']()


def entropy(text):
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares)


def only(pattern, text):
    found = re.findall(pattern, text, re.MULTILINE)
    assert len(found) == 1, f'{pattern} is found {len(found)} times'
    return found[0]


def expressions(folder):
    """Returns, for each format, an expression whose group 1 is the key, and the entropy that it demands."""
    read = {name: (folder / name).read_text() for name in ['gitleaks', 'trufflehog', 'github', 'regex']}
    for name, field in [('gitleaks', r"^regex = '''(.*)'''$"), ('trufflehog', r"^      key: '(.*)'$")]:
        demanded = re.search(r'entropy(?:: | = )([0-9.]+)$', read[name], re.MULTILINE)
        keywords = re.findall(r'[A-Za-z][0-9A-Za-z_]*_', only(r'^ *keywords[:=]? ?=? ?\[(.*)\]$', read[name]))
        yield name, re.compile(only(field, read[name])), float(demanded[1]) if demanded else 0, keywords
    fields = [only(rf'^{field}: +(.*)$', read['github']) for field in ['Before secret', 'Secret format', 'After secret']]
    before, key, after = (field.replace(r'\z', r'\Z') for field in fields)
    yield 'github', re.compile(f'(?:{before})({key})(?:{after})'), 0, ['']
    yield 'regex', re.compile(f'({read["regex"].strip()})'), 0, ['']


def check_keys(folder, keys):
    detector, rules = plugin(folder), list(expressions(folder))
    finders = {name: rule.findall for name, rule, _, _ in rules}
    finders['detect-secrets'] = lambda text: list(detector.analyze_string(text))
    for key in keys:
        if list(detector.analyze_string(key[:-1] + ('1' if key[-1] == '0' else '0'))):
            print('detect-secrets: reports a wrong checksum')
        texts = [place % key for place in PLACES]
        for name, find in finders.items():
            if find('\n'.join(texts)) == [key] * len(texts):
                continue
            for place, text in zip(PLACES, texts):
                if find(text) != [key]:
                    print(f'{name}: misses {place}')
        for name, _, demanded, keywords in rules:
            if entropy(key) <= demanded or not any(word in key for word in keywords):
                print(f'{name}: leaves out keys')


def check_tree(folder, tree):
    detector, files = plugin(folder), 0
    for root, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if name not in ('target', '.git')]
        for name in names:
            path, files = os.path.join(root, name), files + 1
            if not os.path.isfile(path):
                continue
            with open(path, encoding='latin-1') as file:
                for number, line in enumerate(file, 1):
                    for _ in detector.analyze_string(line):
                        print(f'{path}:{number}: a key')
    assert files > 0, f'{tree} is empty'


folder, what, path = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if what == 'keys':
    check_keys(folder, Path(path).read_text().split())
else:
    check_tree(folder, path)
print('checked')
