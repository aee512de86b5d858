"""Packed fake trees of /sys, /proc, /etc and /dev: a file a line, as ``path = content``.

The Jetson's values are those of an Orin Nano on L4T 36.4.3 as its sysfs lays them out.
"""

from __future__ import annotations

from pathlib import Path

_CPUINFO_ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes asimdhp asimddp\n"
_CPUINFO_PC = "processor\t: 0\nmodel name\t: Fast(R) CPU @ 3.00GHz\nflags\t\t: fpu avx2 avx512f\n"

JETSON_ORIN = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
    "etc/nvpmodel.conf": (
        "# a comment: < POWER_MODEL ID=1 NAME=WRONG >\n"
        "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=7W >\n"
    ),
    "var/lib/nvpmodel/status": "pmode:0001\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\x00",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\x00nvidia,tegra234\x00",
    "proc/cpuinfo": _CPUINFO_ARM,
    "proc/meminfo": "MemTotal:  7990000 kB\nMemAvailable: 5000000 kB\nSwapTotal: 3995000 kB\n",
    "proc/loadavg": "0.52 0.40 0.31 2/321 4242\n",
    "sys/devices/system/cpu/online": "0-3,5\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpu5/cpufreq/scaling_cur_freq": "1510400\n",
    "sys/class/devfreq/17000000.gpu/device/load": "423\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "624750000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
    "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",  # powered down: no value
    "sys/class/thermal/thermal_zone10/type": "tj-thermal\n",
    "sys/class/thermal/thermal_zone10/temp": "-1500\n",
    "sys/class/hwmon/hwmon0/name": "nct1008\n",
    "sys/class/hwmon/hwmon0/in1_label": "NOT_A_RAIL\n",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "5016\n",
    "sys/class/hwmon/hwmon1/curr1_input": "944\n",
    "sys/class/hwmon/hwmon1/curr1_max_alarm": "0\n",
    "sys/class/hwmon/hwmon1/curr1_crit_alarm": "1\n",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_SOC\n",
    "sys/class/hwmon/hwmon1/in2_input": "5008\n",
}

PC_WITH_GPU = {
    "proc/cpuinfo": _CPUINFO_PC,
    "proc/meminfo": "MemTotal: 1024 kB\nMemAvailable: 512 kB\nSwapTotal: 0 kB\n",
    "proc/loadavg": "1.00 1.00 1.00 1/1 1\n",
    "proc/driver/nvidia/version": (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
    ),
    "sys/devices/system/cpu/online": "0-7\n",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone0/temp": "51000\n",
    "dev/nvidia0": "",
    "dev/nvidia10": "",
    "dev/nvidia2": "",
    "dev/nvidiactl": "",
    "dev/nvidia-uvm": "",
}

EMPTY: dict[str, str] = {}


def unpack(tree: dict[str, str], folder: Path) -> Path:
    """Write a packed tree below ``folder``; the folder is what the readers take as root."""
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder
