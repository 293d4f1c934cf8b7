# SPDX-License-Identifier: MIT
"""What the tests on real mounts share."""
