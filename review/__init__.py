"""What a change is judged by and how it is told: policies, and the comment on a preview."""
