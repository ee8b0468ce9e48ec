import com.pixelmed.dicom.Attribute;
import com.pixelmed.dicom.AttributeFactory;
import com.pixelmed.dicom.AttributeList;
import com.pixelmed.dicom.AttributeTag;
import com.pixelmed.dicom.DicomDictionary;
import com.pixelmed.dicom.SetOfDicomFiles;
import com.pixelmed.dicom.SpecificCharacterSet;
import com.pixelmed.dicom.StoredFilePathStrategy;
import com.pixelmed.network.FindSOPClassSCU;
import com.pixelmed.network.GetSOPClassSCU;
import com.pixelmed.network.IdentifierHandler;
import com.pixelmed.network.MoveSOPClassSCU;
import com.pixelmed.network.MultipleInstanceTransferStatusHandlerWithFileName;
import com.pixelmed.network.ReceivedObjectHandler;
import com.pixelmed.network.StorageSOPClassSCU;
import com.pixelmed.network.VerificationSOPClassSCU;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.TreeSet;

/**
 * PixelMed's network classes as a client that is told what to do line by line: a request is one line of fields with tabs between them, its answer lines
 * of the same form, the last of them "done" or "failed" with a reason. Arguments: port, our AE title, the peer's.
 */
public class PixelMedVisit {
    private static final String HOST = "127.0.0.1";
    private static final String[] CHARACTER_SETS = {"ISO_IR 192"};
    private static PrintStream out;
    private static int port;
    private static String calling;
    private static String called;

    public static void main(String[] arguments) throws Exception {
        // The library talks on the standard output as well.
        out = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true, "UTF-8");
        System.setOut(System.err);
        port = Integer.parseInt(arguments[0]);
        calling = arguments[1];
        called = arguments[2];
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            List<String> fields = Arrays.asList(line.split("\t", -1));
            try {
                serve(fields.get(0), fields.subList(1, fields.size()));
                out.println("done");
            } catch (Exception | LinkageError error) {
                out.println("failed\t" + String.valueOf(error).replaceAll("[\t\n]", " "));
            }
        }
    }

    private static void serve(String request, List<String> fields) throws Exception {
        switch (request) {
            case "echo": new VerificationSOPClassSCU(HOST, port, called, calling, false); break;
            case "store": store(fields); break;
            case "find": find(fields.get(0), fields.get(1), fields.subList(2, fields.size())); break;
            case "move": move(fields.get(0), fields.get(1), fields.get(2), fields.subList(3, fields.size())); break;
            case "get": get(fields.get(0), fields.get(1), new File(fields.get(2)), fields.get(3), fields.subList(4, fields.size())); break;
            default: throw new IllegalArgumentException(request);
        }
    }

    /** Answers "stored" or "refused" with each file's path; all over one association. */
    private static void store(List<String> paths) throws Exception {
        new StorageSOPClassSCU(HOST, port, called, calling, new SetOfDicomFiles(new ArrayList<String>(paths)), 0, new MultipleInstanceTransferStatusHandlerWithFileName() {
            @Override
            public void updateStatus(int remaining, int completed, int failed, int warning, String uid, String path, boolean success) {
                out.println((success ? "stored\t" : "refused\t") + path);
            }
        });
    }

    private static void find(String root, String level, List<String> keys) throws Exception {
        new FindSOPClassSCU(HOST, port, called, calling, model(root, 1), identifier(level, keys), new IdentifierHandler() {
            @Override
            public void doSomethingWithIdentifier(AttributeList answer) {
                StringBuilder line = new StringBuilder("answer");
                for (Attribute attribute : answer.values()) {
                    String name = DicomDictionary.StandardDictionary.getNameFromTag(attribute.getTag());
                    line.append('\t').append(name).append('=').append(attribute.getDelimitedStringValuesOrEmptyString());
                }
                out.println(line);
            }
        });
    }

    private static void move(String root, String level, String destination, List<String> keys) throws Exception {
        MoveSOPClassSCU scu = new MoveSOPClassSCU(HOST, port, called, calling, destination, model(root, 2), identifier(level, keys));
        out.println("status\t" + Integer.toHexString(scu.getStatus()));
    }

    /** Answers "got" with each file's path; the classes to take, with commas between them, are proposed in every transfer syntax that the library knows (4), one a context. */
    private static void get(String root, String level, File folder, String classes, List<String> keys) throws Exception {
        new GetSOPClassSCU(HOST, port, called, calling, model(root, 3), identifier(level, keys), new IdentifierHandler(), folder,
            StoredFilePathStrategy.BYSOPINSTANCEUIDINSINGLEFOLDER, new ReceivedObjectHandler() {
                @Override
                public void sendReceivedObjectIndication(String path, String transferSyntax, String source) {
                    out.println("got\t" + path);
                }
            }, new TreeSet<String>(Arrays.asList(classes.split(","))), 4, false, true, false);
    }

    /** The information model of a root for C-FIND (1), C-MOVE (2) or C-GET (3). */
    private static String model(String root, int service) {
        return "1.2.840.10008.5.1.4.1.2." + (root.equals("PATIENT") ? 1 : 2) + "." + service;
    }

    /** Keys are "Keyword=value", the value empty or with backslashes between several. */
    private static AttributeList identifier(String level, List<String> keys) throws Exception {
        AttributeList list = new AttributeList();
        put(list, "SpecificCharacterSet", CHARACTER_SETS[0]);
        put(list, "QueryRetrieveLevel", level);
        for (String key : keys) {
            int equals = key.indexOf('=');
            put(list, key.substring(0, equals), key.substring(equals + 1));
        }
        return list;
    }

    private static void put(AttributeList list, String keyword, String values) throws Exception {
        AttributeTag tag = DicomDictionary.StandardDictionary.getTagFromName(keyword);
        byte[] vr = DicomDictionary.StandardDictionary.getValueRepresentationFromTag(tag);
        Attribute attribute = AttributeFactory.newAttribute(tag, vr, new SpecificCharacterSet(CHARACTER_SETS));
        if (!values.isEmpty()) {
            for (String value : values.split("\\\\")) {
                attribute.addValue(value);
            }
        }
        list.put(attribute);
    }
}
