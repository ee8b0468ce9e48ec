import java.io.FileInputStream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;

/** Reads packs as a stream, which refuses stored entries with data descriptors, and prints each entry's name and size. */
public class ZipTest {
    public static void main(String[] paths) throws Exception {
        for (String path : paths) {
            try (ZipInputStream zip = new ZipInputStream(new FileInputStream(path))) {
                for (ZipEntry entry = zip.getNextEntry(); entry != null; entry = zip.getNextEntry()) {
                    System.out.println(entry.getName() + " " + zip.readAllBytes().length);
                }
            }
        }
    }
}
