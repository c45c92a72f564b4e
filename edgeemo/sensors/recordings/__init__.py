"""What a recording holds, how it is decoded, and how it is played at its own pace."""
