"""Runs a program on a terminal: terminal.py COLUMNS WAIT_FOR INPUT PROGRAM [ARGUMENT]..

INPUT is typed when WAIT_FOR is seen. If it is `signal:NUMBER`, this signal is sent to the program instead. What the terminal gets is written to
stdout; the exit code is the program's.
"""
import fcntl
import os
import pty
import signal
import struct
import sys
import termios

# Stands in INPUT for a byte that no text in UTF-8 has.
NO_TEXT = '\ue0ff'.encode()

columns, wait_for, typed = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode().replace(NO_TEXT, b'\xff')
process, terminal = pty.fork()
if process == 0:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    # This process stays, as a shell does: it sees how the program leaves the terminal.
    ends = [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT]
    for end in ends:
        signal.signal(end, signal.SIG_IGN)
    program = os.fork()
    if program == 0:
        for end in ends:
            signal.signal(end, signal.SIG_DFL)
        os.execv(sys.argv[4], sys.argv[4:])
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
        if typed.startswith(b'signal:'):
            os.killpg(os.tcgetpgrp(terminal), int(typed[7:]))
        else:
            os.write(terminal, typed)
        typed = b''
_, status = os.waitpid(process, 0)
sys.stdout.buffer.write(seen.replace(b'\xff', b'?'))
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(status))
