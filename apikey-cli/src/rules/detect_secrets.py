"""detect-secrets plugin for keys of the apikey crate:  detect-secrets scan -p apikey_detect_secrets.py"""
import re
import zlib

from detect_secrets.plugins.base import RegexBasedDetector

PREFIXES = (@PREFIXES@)
B62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'


def checksum(text):
    number, digits = zlib.crc32(text.encode()), ''
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = B62[digit] + digits
    return digits


class ApikeyDetector(RegexBasedDetector):
    """Keys of the apikey crate, with a right checksum."""

    secret_type = 'apikey key'
    denylist = [
        re.compile(rf'{re.escape(prefix)}_[0-7][0-9A-Za-z]{{21}}_@SECRET@[0-4][0-9A-Za-z]{{5}}')
        for prefix in PREFIXES
    ]

    def analyze_string(self, string):
        for match in super().analyze_string(string):
            if checksum(match[:-6]) == match[-6:]:
                yield match
