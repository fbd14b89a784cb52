"""A broker of a test's own: one that may be killed, put to sleep, or given older data, while the shared one serves the others."""

import os
import shutil
import signal
import time
import types

from confluent_kafka.admin import AdminClient

from e2e.driver import ROOT


def services(folder):
    """`dev/services` as a module whose state lies in `folder`."""
    script = ROOT / "dev/services"
    module = types.ModuleType("kas3_services")
    module.__file__ = str(script)
    exec(compile(script.read_text(), script, "exec"), module.__dict__)
    module.STATE = folder
    return module


class Broker:
    """Apache Kafka on ports of its own, with data of its own."""

    def __init__(self, folder):
        self.module = services(folder)
        self.module.fetch_kafka()
        self.service = self.module.Kafka("kafka")
        self.service.up()
        self.data = self.service.folder / "data"

    @property
    def address(self):
        return self.service.address()

    def admin(self):
        """A client that knows nothing of an earlier life of the broker."""
        return AdminClient({"bootstrap.servers": self.address})

    def signal(self, number):
        os.kill(self.service.pid(), number)

    def kill(self):
        """Ends it as a power cut would."""
        pid = self.service.pid()
        os.kill(pid, signal.SIGKILL)
        while self.service.pid() == pid:
            time.sleep(0.02)

    def shut_down(self):
        """Ends it in order, so that everything it holds is in its folder."""
        self.service.kill()

    def start(self):
        """The same broker again, with its data, on its ports."""
        self.service.wait(self.service.spawn(*self.service.command()))

    def sleep(self, seconds):
        """SIGSTOP for a while: it neither answers nor closes a connection."""
        self.signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.signal(signal.SIGCONT)

    def become(self, cluster):
        """Another cluster on the same ports, empty."""
        self.kill()
        shutil.rmtree(self.data)
        properties = str(self.service.folder / "server.properties")
        command = self.service.java("128m", "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", properties)
        self.module.build("kafka.tools.StorageTool", command, self.service.folder / "format.log")
        self.start()

    def log(self, topic, partition=0):
        """The folder of a partition's log."""
        return self.data / f"{topic}-{partition}"

    def remove(self):
        self.service.down()
