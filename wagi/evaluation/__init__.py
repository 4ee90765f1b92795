"""Quality: named protocols, scores, reports, and the stand-in networks that portraits are judged by."""
