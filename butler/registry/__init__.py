"""What a repository's database holds, and how datasets get into it."""
