"""What this machine is, what works on it, and what to do about the rest."""

from edgeemo.doctor.examine import examine
from edgeemo.doctor.report import Finding, Report, Severity

__all__ = ["Finding", "Report", "Severity", "examine"]
