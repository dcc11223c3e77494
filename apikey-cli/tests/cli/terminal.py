"""Runs a program on a terminal: terminal.py COLUMNS WAIT_FOR INPUT PROGRAM [ARGUMENT]..

INPUT is typed when WAIT_FOR is seen; at the hidden prompt for a key, when the terminal does not show what is typed, or after a minute if it
always does. What the terminal gets is written to stdout; the exit code is the program's.
"""
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
import time

columns, wait_for, typed = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode()
process, terminal = pty.fork()
if process == 0:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    # This process stays, as a shell does: it sees how the program leaves the terminal.
    program = os.fork()
    if program == 0:
        os.execv(sys.argv[4], sys.argv[4:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, status = os.waitpid(program, 0)
    if not termios.tcgetattr(0)[3] & termios.ECHO:
        os.write(1, b'the terminal was left without an echo')
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)
seen = b''
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        # Linux says so if the last user of the terminal has closed it.
        break
    if not piece:
        break
    seen += piece
    if typed and wait_for in seen:
        # The program turns the echo off after it wrote the prompt.
        end = time.monotonic() + 60
        while wait_for == b'Key: ' and termios.tcgetattr(terminal)[3] & termios.ECHO and time.monotonic() < end:
            time.sleep(0.01)
        os.write(terminal, typed)
        typed = b''
_, status = os.waitpid(process, 0)
sys.stdout.buffer.write(seen)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(status))
