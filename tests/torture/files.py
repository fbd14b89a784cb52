"""The oracle's files, with what the runs look at beside the data."""

from oracle import S3Files


class Bucket(S3Files):
    """A prefix of a bucket."""

    def below(self, folder):
        """Paths below a folder, hidden ones too, with what `list` says of them."""
        found = {}
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + folder):
            for each in page.get("Contents", []):
                found[each["Key"][len(self.prefix):]] = (each["ETag"], each["Size"], each["LastModified"])
        return found

    def uploads_begun(self):
        """When each open upload of the bucket began."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket)
        return [each["Initiated"] for page in pages for each in page.get("Uploads", [])]

    def make(self):
        self.client.create_bucket(Bucket=self.bucket)
        return self

    def remove(self):
        for path in self.paths(everything=True):
            self.delete(path)
        for path, upload in self.uploads():
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=self.prefix + path, UploadId=upload)
        self.client.delete_bucket(Bucket=self.bucket)
